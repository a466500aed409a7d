-- For wrk: counts what each connection got, from which version, and how long it waited for it.
--
-- Run with as many threads as connections (wrk -t16 -c16): a thread has a script of its own, so each count is
-- that of one connection, and a request that is still open at the end is seen. wrk's own numbers leave it out.
--
--   PACE_MS      longest pause of a connection between an answer and its next request; 0: none
--   REPORT       the file that gets the counts, as JSON
--
-- A good answer has status 200 and "version NAME" in its body. Times are in milliseconds.

local ffi = require("ffi")
ffi.cdef [[
  struct since_boot { long seconds; long nanoseconds; };
  int clock_gettime(int clock, struct since_boot *now);
]]
local CLOCK_MONOTONIC = 1

-- A request that is open for longer than this at the end counts as unanswered.
local OPEN_AT_END_MS = 1000

local function now()
  local time = ffi.new("struct since_boot")
  ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.seconds) * 1000 + tonumber(time.nanoseconds) / 1000000
end

-- ---- in each thread

-- Globals, since `done` can read nothing else.
open_since = 0 -- of the request under way; 0: none
first_wait = 0 -- for this connection's first answer, of whatever version
longest_later = 0
longest_gap = 0 -- from one good answer to the next, failed attempts and pauses included
last_good = 0
bad_status = 0
nameless = 0
answers, first_answer, last_answer = {}, {}, {} -- by version

local pace = tonumber(os.getenv("PACE_MS") or "0")
local plain_request

function init()
  plain_request = wrk.format("GET", "/")
  -- Else all threads would pause alike.
  math.randomseed(now() + tonumber(tostring(wrk.thread):match("0x(%x+)"), 16) % 65536)
end

function request()
  open_since = now()
  return plain_request
end

function response(status, _, body)
  local at = now()
  if first_wait == 0 then
    first_wait = at - open_since
  else
    longest_later = math.max(longest_later, at - open_since)
  end
  open_since = 0
  local version = body:match("version (%S+)")
  if status ~= 200 then
    bad_status = bad_status + 1
  elseif not version then
    nameless = nameless + 1
  else
    answers[version] = (answers[version] or 0) + 1
    first_answer[version] = first_answer[version] or at
    last_answer[version] = at
    longest_gap = last_good > 0 and math.max(longest_gap, at - last_good) or 0
    last_good = at
  end
end

if pace > 0 then
  function delay()
    return math.random(0, pace)
  end
end

-- ---- before and after

local threads = {}
local began

function setup(thread)
  began = began or now()
  table.insert(threads, thread)
end

local function gather()
  local all = { first = 0, later = 0, gap = 0, bad_status = 0, nameless = 0, unanswered = 0, versions = {} }
  local ended = now()
  for _, thread in ipairs(threads) do
    local open = thread:get("open_since")
    local waited = open > 0 and ended - open or 0
    all.first = math.max(all.first, thread:get("first_wait"))
    all.later = math.max(all.later, thread:get("longest_later"), waited)
    all.gap = math.max(all.gap, thread:get("longest_gap"))
    all.unanswered = all.unanswered + (waited > OPEN_AT_END_MS and 1 or 0)
    all.bad_status = all.bad_status + thread:get("bad_status")
    all.nameless = all.nameless + thread:get("nameless")
    local first, last = thread:get("first_answer"), thread:get("last_answer")
    for name, count in pairs(thread:get("answers")) do
      local version = all.versions[name] or { answers = 0, first = math.huge, last = 0 }
      version.answers = version.answers + count
      version.first = math.min(version.first, first[name])
      version.last = math.max(version.last, last[name])
      all.versions[name] = version
    end
  end
  return all
end

function done(summary)
  local all, errors, versions = gather(), summary.errors, {}
  for name, version in pairs(all.versions) do
    table.insert(versions, string.format('{"version":"%s","answers":%d,"first_ms":%d,"last_ms":%d}',
      name, version.answers, version.first - began, version.last - began))
  end
  local report = assert(io.open(assert(os.getenv("REPORT"), "REPORT isn't set"), "w"))
  report:write(string.format(
    '{"answered":%d,"longest_wait_ms":%d,"first_wait_ms":%d,"longest_later_ms":%d,"longest_gap_ms":%d,"failed":{"connect":%d,"read":%d,"write":%d,"timeout":%d,'
      .. '"status":%d,"nameless":%d,"unanswered":%d},"versions":[%s]}\n',
    summary.requests, math.max(all.first, all.later), all.first, all.later, all.gap, errors.connect, errors.read, errors.write, errors.timeout,
    all.bad_status, all.nameless, all.unanswered, table.concat(versions, ",")))
  report:close()
end
