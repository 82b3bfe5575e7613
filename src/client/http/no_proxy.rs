//! `NO_PROXY`: who is asked without a proxy, as curl reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::client::Address;

/// Whether a list names somebody. `*` alone names everybody; a name stands for itself and all names below it, with a dot
/// before it or without; an address stands for itself, and with `/BITS` for its network. Commas and blanks stand between
/// them. A port makes an entry one that names nobody, as does a `*` among others.
pub(super) fn names(list: &str, address: &Address) -> bool {
    if list == "*" {
        return true;
    }
    let entries = list.split([',', ' ', '\t']).filter(|it| !it.is_empty());
    match address {
        Address::Ip(socket) => { entries }.any(|entry| has(entry, socket.ip())),
        Address::Name { name, .. } => match name.split_once('%') {
            // an address of one network segment
            Some((ip, _)) => (ip.parse().ok()).is_some_and(|ip| { entries }.any(|it| has(it, ip))),
            None => { entries }.any(|entry| is_below(entry, name)),
        },
        Address::Unix(_) => true,
    }
}

fn is_below(entry: &str, name: &str) -> bool {
    let entry = entry.strip_suffix('.').unwrap_or(entry);
    let entry = entry.strip_prefix('.').unwrap_or(entry);
    let name = name.strip_suffix('.').unwrap_or(name);
    let Some(rest) = name.len().checked_sub(entry.len()) else {
        return false;
    };
    let ends_so = (name.get(rest..)).is_some_and(|end| end.eq_ignore_ascii_case(entry));
    ends_so && !entry.is_empty() && (rest == 0 || name[..rest].ends_with('.'))
}

fn has(entry: &str, ip: IpAddr) -> bool {
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => (network, leading_number(bits)),
        None => (entry, 0),
    };
    match ip {
        IpAddr::V4(ip) => (network.parse::<Ipv4Addr>()).is_ok_and(|network| {
            let (ip, network) = (u128::from(ip.to_bits()), u128::from(network.to_bits()));
            are_same(ip, network, bits, 32)
        }),
        IpAddr::V6(ip) => (network.parse::<Ipv6Addr>())
            .is_ok_and(|network| are_same(ip.to_bits(), network.to_bits(), bits, 128)),
    }
}

/// Whether the first bits are the same. None at all stands for all of them.
fn are_same(one: u128, other: u128, bits: u32, width: u32) -> bool {
    match width.checked_sub(bits) {
        None => false,
        Some(rest) if rest == width => one == other,
        Some(rest) => one >> rest == other >> rest,
    }
}

fn leading_number(text: &str) -> u32 {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let digits = &text[..end.unwrap_or(text.len())];
    if digits.is_empty() {
        return 0;
    }
    digits.parse().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Whom is asked, by which list, and whether that is without a proxy.
    const TABLE: [(&str, &str, bool); 45] = [
        ("a.test:80", "", false),
        ("a.test:80", "*", true),
        ("127.0.0.1:80", "*", true),
        ("a.test:80", "* ", false),
        ("a.test:80", " *", false),
        ("a.test:80", "b.test,*", false),
        ("a.test:80", "*.test", false),
        ("a.test:80", "a.test", true),
        ("A.Test:80", "a.tEST", true),
        ("a.test.:80", "a.test", true),
        ("a.test:80", "a.test.", true),
        ("a.test:80", ".a.test", true),
        ("a.test:80", "..a.test", false),
        ("x.a.test:80", "a.test", true),
        ("x.a.test:80", ".a.test", true),
        ("x.a.test:80", "*.a.test", false),
        ("xa.test:80", "a.test", false),
        ("a.test:80", "x.a.test", false),
        ("a.test:80", "test", true),
        ("a.test:80", ".test", true),
        ("a.test:80", ".", false),
        ("a.test:80", ",", false),
        ("a.test:80", ",,a.test", true),
        ("a.test:80", "b.test , a.test", true),
        ("a.test:80", "b.test a.test", true),
        ("a.test:80", "b.test;a.test", false),
        ("a.test:80", "a.test:80", false),
        ("127.0.0.1:2", "127.0.0.1:2", false),
        ("127.0.0.1:2", "127.0.0.1", true),
        ("localhost:80", "localhost", true),
        ("localhost:80", "127.0.0.1", false),
        ("127.1.2.3:80", "127.0.0.0/8", true),
        ("127.1.2.3:80", "127.0.0.0/9", true),
        ("127.1.2.3:80", "127.128.0.0/9", false),
        ("127.1.2.3:80", "0.0.0.0/0", false),
        ("127.1.2.3:80", "127.1.2.3/0", true),
        ("127.1.2.3:80", "127.1.2.3/32", true),
        ("127.1.2.3:80", "127.1.2.3/33", false),
        ("127.1.2.3:80", "127.1.2.3/99999999999", false),
        ("127.1.2.3:80", "127.1.2.3/x", true),
        ("127.1.2.3:80", "1.2.3", false),
        ("127.1.2.3:80", ".2.3", false),
        ("127.1.2.3:80", "127.1.2", false),
        ("[::1]:80", "::1", true),
        ("[::1]:80", "fe80::1,127.0.0.1", false),
    ];

    #[test]
    fn a_list_names_hosts_suffixes_and_networks() {
        for (address, list, expected) in TABLE {
            let parsed = Address::parse(address).unwrap();
            assert_eq!(names(list, &parsed), expected, "{address} by {list:?}");
        }
        // curl before 8 compared these as names
        for (address, list, expected) in [
            ("[::1]:80", "::/64", true),
            ("[::1]:80", "0:0::1", true),
            ("[2001:db8::1]:80", "2001:db8::/33", true),
            ("[2001:db8:8000::1]:80", "2001:db8::/33", false),
            ("[::1]:80", "::1/129", false),
            ("[fe80::1%eth0]:80", "fe80::/10", true),
            ("[::1]:80", "0.0.0.1", false),
        ] {
            let parsed = Address::parse(address).unwrap();
            assert_eq!(names(list, &parsed), expected, "{address} by {list:?}");
        }
        assert!(names("", &Address::parse("unix:/run/x.sock").unwrap()));
    }

    #[test]
    #[ignore = "needs curl"]
    fn curl_reads_each_list_the_same() {
        for (address, list, expected) in TABLE {
            let told = Command::new("curl")
                .args(["-v", "--max-time", "1", "--resolve", "*:80:127.0.0.1"])
                .arg(format!("http://{address}/"))
                .env("http_proxy", "http://127.0.0.1:1")
                .env("no_proxy", list)
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&told.stderr).into_owned();
            let is_direct = !told.contains("Uses proxy env variable http_proxy");
            assert_eq!(is_direct, expected, "{address} by {list:?}: {told}");
        }
    }
}
