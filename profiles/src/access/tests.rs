use proptest::prelude::*;

use super::*;

fn path(text: &str) -> AccessPath {
    AccessPath::new(text).expect("a path")
}

#[test]
fn paths_have_one_form() {
    for (text, normal) in [
        ("/", "/"),
        ("///", "/"),
        ("/a/", "/a"),
        ("//a/./b//", "/a/b"),
        ("/...", "/..."),
    ] {
        assert_eq!(path(text).as_bytes(), normal.as_bytes(), "{text}");
    }
    for (text, why) in [
        ("", PathError::Relative),
        ("a", PathError::Relative),
        ("/a/../b", PathError::Parent),
        ("/a\0", PathError::Nul),
    ] {
        assert_eq!(AccessPath::new(text), Err(why), "{text:?}");
    }
    let long = format!("/{}", "a".repeat(MAX_PATH_BYTES));
    assert_eq!(AccessPath::new(long), Err(PathError::TooLong));
    assert_eq!(path("/a").parent(), Some(path("/")));
    assert_eq!(path("/").parent(), None);
    assert!(path("/a/b").is_below(&path("/a")) && path("/a").is_below(&path("/")));
    assert!(!path("/ab").is_below(&path("/a")) && !path("/a").is_below(&path("/a")));
}

#[test]
fn a_document_is_written_and_read() {
    let mut access = Access::new();
    let from = Source::Recording;
    let odd = AccessPath::new(b"/\xff\n").expect("a path");
    for (place, rights) in [
        (Place::subtree(path("/usr")), Rights::RUN),
        (Place::exact(path("/etc/passwd")), Right::Read.into()),
        (Place::exact(odd), Right::Write.into()),
    ] {
        access.allow(place, rights, from).expect("room");
    }
    access.network = Some(Network {
        tcp_bind: Ports::Only(BTreeSet::from([80])),
        ..Network::default()
    });
    access.scope.signals = true;
    access.note("a note".to_owned());
    let text = access.to_json().expect("written");
    assert!(text.contains("\"hex\": \"2fff0a\""), "{text}");
    let read = Access::from_json(text.as_bytes()).expect("read");
    assert_eq!(read, access);
}

#[test]
fn what_is_no_document_is_refused() {
    for (text, word) in [
        ("", "EOF"),
        ("{}", "version"),
        (r#"{"version": 2}"#, "version 2"),
        (r#"{"version": 1, "file": []}"#, "unknown field"),
        (
            r#"{"version": 1, "files": [{"path": "etc", "rights": ["read"]}]}"#,
            "absolute",
        ),
        (
            r#"{"version": 1, "files": [{"path": "/etc", "rights": []}]}"#,
            "must allow something",
        ),
        (
            r#"{"version": 1, "files": [{"path": "/etc", "rights": ["rule"]}]}"#,
            "unknown variant",
        ),
        (r#"{"version": 1, "network": {"tcp_bind": [65536]}}"#, ""),
        (
            r#"{"version": 1, "files": [{"path": {"hex": "2f6"}, "rights": ["read"]}]}"#,
            "pairs",
        ),
    ] {
        let error = Access::from_json(text.as_bytes()).expect_err(text);
        let AccessError::Form(source) = error else {
            panic!("{text}: {error}");
        };
        assert!(source.to_string().contains(word), "{text}: {source}");
    }
    let large = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    let error = Access::from_json(&large).expect_err("too large");
    assert!(matches!(error, AccessError::TooLarge));
}

#[test]
fn more_rules_than_there_is_room_for_are_refused() {
    let mut access = Access::new();
    for number in 0..MAX_RULES {
        let place = Place::exact(path(&format!("/{number}")));
        access
            .allow(place, Right::Read.into(), Source::Policy)
            .expect("room");
    }
    let more = access.allow(
        Place::exact(path("/more")),
        Right::Read.into(),
        Source::Policy,
    );
    assert!(matches!(more, Err(AccessError::TooManyRules)));
    access
        .allow(
            Place::exact(path("/0")),
            Right::Write.into(),
            Source::Policy,
        )
        .expect("a rule that is there can grow");
}

fn some_path() -> impl Strategy<Value = AccessPath> {
    // Few names, so that rules meet.
    let name = prop::sample::select(vec!["a", "b", "ab"]);
    prop::collection::vec(name, 0..4)
        .prop_map(|names| AccessPath::new(format!("/{}", names.join("/"))).expect("a path"))
}

fn some_access() -> impl Strategy<Value = Access> {
    let rule = (some_path(), any::<bool>(), 0u16..1 << 10);
    let port = || {
        prop_oneof![
            Just(Ports::Any),
            prop::collection::btree_set(0u16..4, 0..3).prop_map(Ports::Only)
        ]
    };
    let network = prop::option::of((port(), port(), prop::option::of(any::<bool>())));
    let scope = (any::<bool>(), any::<bool>());
    (prop::collection::vec(rule, 0..8), network, scope).prop_map(|(rules, network, scope)| {
        let mut access = Access::new();
        for (path, subtree, bits) in rules {
            let all: Vec<Right> = Rights::ALL
                .iter()
                .enumerate()
                .filter(|(index, _)| bits & 1 << index != 0)
                .map(|(_, right)| right)
                .collect();
            let place = Place { path, subtree };
            access
                .allow(place, Rights::of(&all), Source::Policy)
                .expect("room");
        }
        access.network = network.map(|(tcp_bind, tcp_connect, raw)| Network {
            tcp_bind,
            tcp_connect,
            raw,
            families: None,
        });
        access.scope = Scope {
            signals: scope.0,
            abstract_sockets: scope.1,
        };
        access
    })
}

/// The definition: the union of the rules that cover a path.
fn by_definition(access: &Access, path: &AccessPath) -> Rights {
    access
        .files()
        .filter(|(place, _)| place.covers(path))
        .fold(Rights::NONE, |all, (_, grant)| all | grant.rights)
}

fn binds(access: &Access, port: u16) -> bool {
    let network = access.network.as_ref();
    network.is_none_or(|network| network.tcp_bind.allows(port))
}

proptest! {
    #[test]
    fn rights_are_what_the_rules_that_cover_a_path_give(access in some_access(), path in some_path()) {
        prop_assert_eq!(access.rights_at(&path), by_definition(&access, &path));
    }

    #[test]
    fn unions_and_intersections_mean_what_they_say(
        a in some_access(), b in some_access(), path in some_path(), port in 0u16..4,
    ) {
        let (union, both) = (a.union(&b).expect("room"), a.intersection(&b).expect("room"));
        let (of_a, of_b) = (by_definition(&a, &path), by_definition(&b, &path));
        prop_assert_eq!(by_definition(&union, &path), of_a | of_b);
        prop_assert_eq!(by_definition(&both, &path), of_a & of_b);
        prop_assert_eq!(binds(&union, port), binds(&a, port) || binds(&b, port));
        prop_assert_eq!(binds(&both, port), binds(&a, port) && binds(&b, port));
        prop_assert_eq!(both.scope.signals, a.scope.signals || b.scope.signals);
        prop_assert_eq!(union.scope.signals, a.scope.signals && b.scope.signals);
        prop_assert_eq!(&a.union(&a).expect("room"), &a);
    }

    #[test]
    fn documents_come_back_as_they_were(access in some_access()) {
        let text = access.to_json().expect("written");
        prop_assert_eq!(Access::from_json(text.as_bytes()).expect("read"), access);
    }

    #[test]
    fn any_bytes_are_a_path_or_not(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(path) = AccessPath::new(&bytes) {
            prop_assert_eq!(AccessPath::new(path.as_bytes()), Ok(path.clone()));
            let json = serde_json::to_string(&path).expect("written");
            prop_assert_eq!(serde_json::from_str::<AccessPath>(&json).expect("read"), path);
        }
    }

    #[test]
    fn what_is_below_follows_at_once(mut paths in prop::collection::vec(some_path(), 3)) {
        paths.sort();
        if paths[2].is_below(&paths[0]) {
            prop_assert!(paths[1] == paths[0] || paths[1].is_below(&paths[0]));
        }
    }
}
