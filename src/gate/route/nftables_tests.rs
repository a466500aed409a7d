//! The table as text, and what nft lists held against it.

use super::*;

/// Where the host says nothing.
const REMEMBERED: &str = "forgets_closed_x_x_x_x_x_x_x_x_x";

fn backends(weights: &[u32]) -> Vec<RouteBackend> {
    let backend = |(n, weight): (u16, &u32)| RouteBackend {
        instance: format!("1{}", if n == 0 { String::new() } else { format!("@{}", n + 1) }).parse().expect("name"),
        port: 20000 + n,
        weight: *weight,
    };
    (0u16..).zip(weights).map(backend).collect()
}

fn with<T>(weights: &[u32], look: impl Fn(Table<'_>) -> T) -> T {
    let (app, backends) = ("my-app".parse().expect("app"), backends(weights));
    let (ports, timeouts) = (PortRange::new(20000, 20099).expect("a range"), Timeouts::default());
    look(Table { app: &app, public: &[8080], ports, backends: &backends, standby: false, timeouts: &timeouts })
}

#[test]
fn shares_are_turns_without_gaps() {
    for (weights, turns) in [
        (&[][..], &[][..]),
        (&[7], &[(0, 0, 20000)]),
        (&[1, 1], &[(0, 0, 20000), (1, 1, 20001)]),
        (&[90, 10], &[(0, 8, 20000), (9, 9, 20001)]),
        (&[256, 255, 1], &[(0, 255, 20000), (256, 510, 20001), (511, 511, 20002)]),
    ] {
        assert_eq!(with(weights, |table| table.turns().0), turns, "{weights:?}");
    }
}

#[test]
fn both_chains_lead_to_the_same_and_the_old_rules_go() {
    let text = with(&[3, 1], |table| table.ruleset());
    let (before, after) = text.split_once("flush table inet slotd_my-app\n").expect("a flush");
    assert!(before.contains("type nat hook output") && !before.contains("redirect"), "{text}");
    assert!(!after.contains("type nat hook") && !after.contains("ct timeout forgets"), "{text}");
    let users = format!("fib daddr type local tcp dport 8080 ct timeout set \"{REMEMBERED}\"");
    let line = format!("{users} redirect to :numgen inc mod 4 map {{ 0-2 : 20000, 3 : 20001 }}\n");
    assert_eq!(text.matches(&line).count(), 2, "{text}");
    assert!(text.contains("tcp dport 20000-20099 drop\n"), "{text}");
    let text = with(&[1], |table| table.ruleset());
    assert_eq!(text.matches(&format!("{users} redirect to :20000\n")).count(), 2, "{text}");
    assert!(!with(&[], |table| table.ruleset()).contains("redirect"));
}

#[test]
fn refusals_reach_users_only_from_those_that_serve_while_nobody_stands_by() {
    let silent = |weights: &[u32], standby| {
        let text = with(weights, |table| Table { standby, ..table }.ruleset());
        let line = text.lines().find(|line| line.contains(" dnat tcp flags ")).expect("a rule");
        line.trim().split(" ct status").next().expect("ports").to_owned()
    };
    assert_eq!(silent(&[1, 1], false), "tcp sport 20000-20099 tcp sport != { 20000, 20001 }");
    assert_eq!(silent(&[1, 1], true), "tcp sport 20000-20099");
    assert_eq!(silent(&[], false), "tcp sport 20000-20099");
}

#[test]
fn users_come_by_two_ports_while_they_move_from_one_to_the_other() {
    let both = |weights: &[u32]| {
        with(weights, |table| {
            let table = Table { public: &[8080, 9090], ..table };
            let rule = |chain: &str, port: u16| {
                format!(
                    r#"{{"rule":{{"chain":"{chain}","expr":[{{"match":{{"op":"==","left":{{"payload":{{"field":"dport"}}}},"right":{port}}}}},{{"ct timeout":"{REMEMBERED}"}},{{"redirect":{{"port":20000}}}}]}}}}"#
                )
            };
            let listed = |rules: &[String]| format!(r#"{{"nftables":[{}]}}"#, rules.join(","));
            let all = [("prerouting", 8080), ("prerouting", 9090), ("output", 8080), ("output", 9090)];
            let all: Vec<String> = all.iter().map(|(chain, port)| rule(chain, *port)).collect();
            let said = |rules: &[String]| table.is_what_is_listed(&listed(rules)).expect_err("no input chain");
            (table.ruleset(), said(&all), said(&all[..3]))
        })
    };
    let (text, both_listed, one_missing) = both(&[1]);
    for port in [8080, 9090] {
        let line =
            format!("fib daddr type local tcp dport {port} ct timeout set \"{REMEMBERED}\" redirect to :20000\n");
        assert_eq!(text.matches(&line).count(), 2, "{text}");
    }
    assert!(both_listed.contains("chain input"), "{both_listed}");
    assert!(one_missing.contains("chain output has"), "{one_missing}");
    assert!(!both(&[]).0.contains("redirect"));
}

/// As nft 1.0.6 and 1.1.3 list it, with what isn't looked at left out.
fn listing(redirect: &str, closed: &str, told: &str) -> String {
    let matched = |op: &str, field: &str, right: &str| {
        format!(
            r#"{{"match":{{"op":"{op}","left":{{"payload":{{"protocol":"tcp","field":"{field}"}}}},"right":{right}}}}}"#
        )
    };
    let rule = |chain: &str, expr: &str| format!(r#"{{"rule":{{"chain":"{chain}","expr":[{expr}]}}}}"#);
    let timeout = format!(r#"{{"ct timeout":"{REMEMBERED}"}}"#);
    let redirect = format!(r#"{},{timeout},{{"redirect":{{"port":{redirect}}}}}"#, matched("==", "dport", "8080"));
    let drop = r#"{"drop":null}"#;
    let (closed, told) = (
        format!("{},{drop}", matched("==", "dport", closed)),
        format!("{},{},{drop}", matched("==", "sport", r#"{"range":[20000,20099]}"#), matched("!=", "sport", told)),
    );
    format!(
        r#"{{"nftables":[{{"metainfo":{{}}}},{},{},{},{},{}]}}"#,
        rule("prerouting", &redirect),
        rule("output", &redirect),
        rule("input", r#"{"match":{"left":{"meta":{"key":"iif"}}}},{"accept":null}"#),
        rule("input", &closed),
        rule("refusals", &told),
    )
}

#[test]
fn what_is_listed_is_compared() {
    let map = r#"{"map":{"key":{"numgen":{}},"data":{"set":[[3,20001],[{"range":[0,2]},20000]]}}}"#;
    let range = r#"{"range":[20000,20099]}"#;
    let (one, two) = ("20000", r#"{"set":[20001,20000]}"#);
    let judge = |weights: &[u32], text: &str| with(weights, |table| table.is_what_is_listed(text));
    assert_eq!(judge(&[3, 1], &listing(map, range, two)), Ok(()));
    assert_eq!(judge(&[1], &listing(one, range, one)), Ok(()));
    for (weights, text, words) in [
        (&[3, 2][..], listing(map, range, two), "chain prerouting has"),
        (&[], listing(map, range, two), "chain prerouting has"),
        (&[1], listing("20001", range, one), "chain prerouting has"),
        (&[1], listing(one, one, one), "doesn't close 20000-20099"),
        (&[1], listing(one, range, two), "chain refusals doesn't keep those of 20000-20099"),
        (&[1], listing(one, range, one).replacen("8080", "8081", 1), "chain prerouting has"),
        (&[1], listing(one, range, one).replacen(REMEMBERED, "another", 1), "chain prerouting has"),
        (&[1], listing(one, range, one).replace("\"output\"", "\"other\""), "chain output has"),
        (&[1], listing(one, range, one).replace("\"drop\"", "\"accept\""), "doesn't close"),
        (&[1], "{}".to_owned(), "no list"),
    ] {
        let error = judge(weights, &text).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
}
