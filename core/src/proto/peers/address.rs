//! Addresses as text: multiaddrs, which only the shell takes apart completely.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address. Unit: bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Whether `text` may be an address: `/`, then visible characters without blanks, not too long.
pub fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_BYTES_MAX
        && text.starts_with('/')
        && text.bytes().all(|it| it.is_ascii_graphic())
}

/// Whether a node elsewhere can make sense of the address: a name, or an IP address that is not
/// for private, local or documentation use.
pub fn is_public(text: &str) -> bool {
    let mut parts = text.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip4" | "ip6"), Some(ip)) => ip.parse().is_ok_and(is_public_ip),
        (Some("dns" | "dns4" | "dns6" | "dnsaddr"), Some(name)) => {
            name.contains('.') && !name.ends_with(".local") && !name.ends_with(".localhost")
        }
        _ => false,
    }
}

/// Whether an IP address is neither for private, local, special nor documentation use. Of an IPv6
/// address that stands for an IPv4 address, that one counts.
pub fn is_public_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_shared = a == 100 && (64..128).contains(&b); // RFC 6598: carrier-grade NAT.
    let is_benchmark = a == 198 && b & 0xfe == 18; // RFC 2544.
    let is_protocol = (a, b, c) == (192, 0, 0); // RFC 6890.
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || is_shared
        || is_benchmark
        || is_protocol
        || a == 0
        || a >= 240)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low), // RFC 6052: NAT64.
        [0x2002, high, low, ..] => v4(high, low),               // RFC 3056: 6to4.
        [0x2001, 0..0x200, ..] => false,                        // RFC 2928: protocols, Teredo.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false, // RFC 3849, RFC 9637.
        [a, ..] => (0x2000..0x4000).contains(&a), // RFC 4291, 2.4: global unicast is 2000::/3.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_local_addresses_are_not_public() {
        for (text, expected) in [
            ("/ip4/9.9.9.9/tcp/4001", true),
            ("/ip6/2620:fe::9/tcp/4001", true),
            ("/dns/node.example.org/tcp/4001", true),
            ("/ip4/10.0.0.1/tcp/4001", false),
            ("/ip4/192.168.1.2/tcp/4001", false),
            ("/ip4/127.0.0.1/tcp/4001", false),
            ("/ip4/169.254.1.1/tcp/4001", false),
            ("/ip4/100.64.0.1/tcp/4001", false),
            ("/ip4/192.0.2.7/tcp/4001", false),
            ("/ip4/0.0.0.0/tcp/4001", false),
            ("/ip4/224.0.0.1/tcp/4001", false),
            ("/ip6/::1/tcp/4001", false),
            ("/ip6/fe80::1/tcp/4001", false),
            ("/ip6/fd00::1/tcp/4001", false),
            ("/ip6/::ffff:10.0.0.1/tcp/4001", false),
            ("/ip6/::ffff:9.9.9.9/tcp/4001", true),
            ("/ip6/64:ff9b::9.9.9.9/tcp/4001", true),
            ("/ip6/64:ff9b::10.0.0.1/tcp/4001", false),
            ("/ip6/2002:909:909::1/tcp/4001", true),
            ("/ip6/2002:7f00:1::1/tcp/4001", false),
            ("/ip6/2001::1/tcp/4001", false),
            ("/ip6/2001:db8::1/tcp/4001", false),
            ("/ip6/3fff::1/tcp/4001", false),
            ("/ip6/::/tcp/4001", false),
            ("/ip6/ff02::1/tcp/4001", false),
            ("/ip4/198.19.0.1/tcp/4001", false),
            ("/ip4/192.0.0.170/tcp/4001", false),
            ("/ip4/172.16.0.1/tcp/4001", false),
            ("/ip4/169.254.169.254/tcp/80", false),
            ("/ip4/255.255.255.255/tcp/4001", false),
            ("/dns/localhost/tcp/4001", false),
            ("/dns/printer.local/tcp/4001", false),
            ("/unix/tmp", false),
            ("/ip4/nonsense", false),
            ("", false),
        ] {
            assert_eq!(is_public(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_is_short_visible_text() {
        assert!(is_address("/ip4/9.9.9.9/tcp/4001"));
        for text in ["", "ip4", "/a b", "/a\n", "/ä"] {
            assert!(!is_address(text), "{text}");
        }
        assert!(!is_address(&"/".repeat(ADDRESS_BYTES_MAX + 1)));
    }
}
