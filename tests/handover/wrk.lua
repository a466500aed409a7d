-- For wrk: writes what it counted to the file $REPORT, as JSON.

function done(summary)
  local errors = summary.errors
  local report = assert(io.open(assert(os.getenv("REPORT"), "REPORT isn't set"), "w"))
  report:write(string.format('{"requests":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, errors.connect, errors.read, errors.write, errors.timeout, errors.status))
  report:close()
end
