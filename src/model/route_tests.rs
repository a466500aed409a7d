//! The calls of the route's helper, and what a set says, read back.

use super::*;

fn parse(line: &str) -> Result<RouteCall, RouteCallError> {
    RouteCall::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

#[test]
fn the_port_of_an_environment_file() {
    assert_eq!(port_of_env("A=\"1\"\nPORT=\"20001\"\nZ=\"\"\n"), Some(20001));
    for none in ["", "PORT=20001\n", "PORT=\"0\"\n", "PORT=\"70000\"\n", "XPORT=\"1\"\n", "PORT=\"1\n"] {
        assert_eq!(port_of_env(none), None, "{none:?}");
    }
}

#[test]
fn a_command_line_comes_back() {
    for line in [
        "web nftables --port 8080 --ports 20000-20099 web@",
        "web nftables --port 8080,9090 --ports 20000-20099 web@",
        "web haproxy --backend web_1 --socket /run/haproxy/admin.sock --servers 8 --ports 20000-20099 web@",
        "web nginx --include /etc/nginx/slotd/web.conf --ports 20000-20099 web@",
    ] {
        assert_eq!(parse(line).expect(line).to_string(), line);
    }
    assert!(parse("web nftables --ports 20000-20099 --port 8080 web@").is_ok(), "options have no order");
}

#[test]
fn what_is_no_command_line() {
    for (line, words) in [
        ("web", "missing"),
        ("web nftables", "missing"),
        ("web nftables web@", "missing"),
        ("web nftables --ports 20000-20099 web@", "missing"),
        ("web nftables --port 8080 --ports 20000-20099", "no unit template"),
        ("Web nftables --port 8080 --ports 20000-20099 web@", "no app name"),
        ("web ipvs --port 8080 --ports 20000-20099 web@", "no kind of route"),
        ("web nftables --port 0 --ports 20000-20099 web@", "\"0\" names no ports"),
        ("web nftables --port 80, --ports 20000-20099 web@", "\"80,\" names no ports"),
        ("web nftables --port 80,20005 --ports 20000-20099 web@", "is one of the instances' own"),
        ("web nftables --port 80 --ports 20099-20000 web@", "names no ports"),
        ("web nftables --port 80 --ports 0-20 web@", "names no ports"),
        ("web nftables --port 80 --ports 20-70000 web@", "names no ports"),
        ("web nftables --port 20005 --ports 20000-20099 web@", "is one of the instances' own"),
        ("web nftables --port 80 --port 81 --ports 20-30 web@", "twice"),
        ("web nftables --port 80 --ports 20-30 --weight 3 web@", "no option"),
        ("web nftables --port 80 --ports 20-30 web@ web@", "no option"),
        ("web haproxy --backend w/b --socket /s --servers 8 --ports 20-30 web@", "names no backend"),
        ("web haproxy --backend web --socket s --servers 8 --ports 20-30 web@", "no path"),
        ("web haproxy --backend web --socket /s --servers 0 --ports 20-30 web@", "no number of servers"),
        ("web haproxy --backend web --socket /s --servers 513 --ports 20-30 web@", "no number of servers"),
        ("web nginx --ports 20-30 web@", "missing"),
    ] {
        let error = parse(line).expect_err(line).to_string();
        assert!(error.contains(words), "{line:?}: {error}");
    }
}

#[test]
fn tables_of_haproxy() {
    let text =
        "# bkname/svname bkid/svid addr port - used_cur idle_cur idle_per_thr[2]\nweb/s1 3/1 ::1 20000 - 1 2 1 1\n\n";
    let columns = haproxy_columns(text, ["port", "idle_cur"]).expect("a table");
    assert_eq!(columns, [["20000", "2"]]);
    assert_eq!(haproxy_columns("Can't find backend.\n", ["port"]), None);
    assert_eq!(haproxy_columns("# a b\n1 2\n", ["c"]), None);
}

#[test]
fn ranges() {
    let range = |first, last| PortRange::new(first, last).expect("a range");
    assert!(range(20, 30).overlaps(range(30, 40)) && range(30, 40).overlaps(range(20, 30)));
    assert!(!range(20, 30).overlaps(range(31, 40)));
    assert_eq!(PortRange::of_kernel("32768\t60999\n"), Some(range(32768, 60999)));
    assert_eq!(PortRange::of_kernel("32768"), None);
    assert_eq!(range(20000, 29999).refused(range(32768, 60999)), None);
    assert!(range(20000, 32768).refused(range(32768, 60999)).expect("refused").contains("32768-60999"));
    assert!(range(20, 30).contains(30) && !range(20, 30).contains(31));
}
