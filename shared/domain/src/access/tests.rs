//! `[access]`: the limits of profiles, their reasons, and their address ranges.

use super::*;
use crate::config::Document;

/// A configuration with these keys in `[access]` and in its only profile.
fn read(access: &str, profile: &str) -> Result<Access, String> {
    let text = format!(
        "[access]\ndefault_minutes = 180\nmax_minutes = 480\ndefault_profile = \"a\"\n{access}\n\
         [access.profiles.a]\nstatements = [{{ actions = [\"*\"], resources = [\"*\"] }}]\n{profile}\n"
    );
    let access = Document::parse("sekisho.toml", &text).unwrap().access();
    access.map_err(|error| format!("{}: {}", error.key, error.reason))
}

/// A configuration of an earlier version keeps its meaning.
#[test]
fn without_limits_of_its_own_a_profile_has_those_of_access() {
    let access = read("", "").unwrap();
    assert_eq!((access.usual("a").get(), access.longest("a").get(), access.rest_minutes), (180, 480, 30));
    assert_eq!((access.usual("gone").get(), access.longest("gone").get()), (180, 480));
    let profile = access.profiles.values().next().unwrap();
    assert_eq!((&profile.require_reason, profile.mfa_minutes), (&ReasonRule::None, None));
}

#[test]
fn a_profile_may_have_limits_of_its_own() {
    let cases = [
        ("max_minutes = 60", 60, 60),
        ("max_minutes = 60\ndefault_minutes = 15", 15, 60),
        ("max_minutes = 600", 180, 600),
        ("default_minutes = 480", 480, 480),
    ];
    for (profile, usual, longest) in cases {
        let access = read("", profile).unwrap();
        assert_eq!((access.usual("a").get(), access.longest("a").get()), (usual, longest), "{profile}");
    }
}

#[test]
fn a_mistake_in_a_profile_is_named_with_the_fix() {
    let cases = [
        ("", "default_minutes = 481", "access.profiles.a.default_minutes: 481 is more than max_minutes"),
        ("", "max_minutes = 60\ndefault_minutes = 61", "access.profiles.a.default_minutes: 61 is more than"),
        ("", "max_minutes = 0", "access.profiles.a.max_minutes: `0` is not a number of minutes"),
        ("", "mfa_minutes = 0", "access.profiles.a.mfa_minutes: `0` is not a number of minutes"),
        ("", "require_reason = 1", "access.profiles.a.require_reason: expected true, false, or a regular expression"),
        ("", "require_reason = '^OPS-['", "access.profiles.a.require_reason: `^OPS-[` is not a regular expression"),
        (
            "",
            "require_reason = ''",
            "access.profiles.a.require_reason: `` is not a rule for reasons: write an expression such as `^OPS-[0-9]+`, \
             true",
        ),
        ("rest_minutes = -1", "", "access.rest_minutes: "),
        ("time_zone = 'asia/tokyo'", "", "access.time_zone: `asia/tokyo` is not a known time zone: write `Asia/Tokyo`"),
        ("time_zone = '+09:00'", "", "access.time_zone: `+09:00` is not a time zone"),
        ("rest_minutes = 10081", "", "access.rest_minutes: 10081 is more than a week"),
        (
            "",
            "source_ips = ['10.1.0.0/16']",
            "access.profiles.a.source_ips[0]: `10.1.0.0/16` is not a public address range",
        ),
    ];
    for (access, profile, expected) in cases {
        let error = read(access, profile).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(read("rest_minutes = 0", "").unwrap().rest_minutes, 0);
    let zone = read("time_zone = 'Asia/Tokyo'", "").unwrap().time_zone.unwrap();
    let local = zone.local(time::macros::datetime!(2026-11-21 23:45 UTC)).unwrap();
    assert_eq!(crate::timestamp::local_minutes(local), "2026-11-22 08:45");
}

#[test]
fn a_reason_satisfies_its_rule() {
    let rule = |text: &str| {
        let access = read("", &format!("require_reason = {text}")).unwrap();
        access.profiles.into_values().next().unwrap().require_reason
    };
    let cases = [
        ("false", None, true),
        ("true", None, false),
        ("true", Some(""), false),
        ("true", Some(" \u{3000}\n"), false),
        ("true", Some("障害"), true),
        ("'^OPS-[0-9]+'", Some("OPS-7: restart"), true),
        ("'^OPS-[0-9]+'", Some("see OPS-7"), false),
        ("'OPS-[0-9]+'", Some("see OPS-7"), true),
        ("'^OPS-[0-9]+'", None, false),
    ];
    for (text, reason, accepted) in cases {
        assert_eq!(rule(text).accepts(reason), accepted, "{text} {reason:?}");
    }
}

/// AWS sees the public address of a call, never a private one.
#[test]
fn only_ranges_with_public_addresses_are_accepted() {
    let private = [
        "10.0.0.0/8",
        "10.1.2.3",
        "100.64.0.0/10",
        "127.0.0.1",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "172.31.255.0/24",
        "192.168.1.0/24",
        "::1",
        "fc00::/7",
        "fd12:3456::/32",
        "fe80::1",
        "::10.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:203.0.113.0/120",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1:ff::/64",
        "2002:a00::/24",
        "2002:c0a8:101::1",
        "2002:ac10::/28",
    ];
    for range in private {
        let error = SourceIp::try_from(range.to_owned()).unwrap_err().to_string();
        assert!(error.contains("public"), "{error}");
    }
    for range in [
        "203.0.113.0/24",
        "172.32.0.0/16",
        "11.0.0.1",
        "0.0.0.0/0",
        "8.0.0.0/6",
        "2001:db8::/32",
        "2002:cb00:7100::/40",
        "2002:ac10::/27",
        "2002::/16",
        "64:ff9b::/48",
        "::/0",
    ] {
        assert!(SourceIp::try_from(range.to_owned()).is_ok(), "{range}");
    }
}
