//! The metadata service, as a guest's curl finds it.

use serde_json::json;

use super::card::{describe, serve_metadata};
use super::monitor::Monitor;
use crate::network::{data, in_own_network, serve};

crate::tests!(
    TRIMMED => [
        version_1_answers_in_text_and_in_json,
        version_2_answers_whoever_has_a_token,
        a_guest_sees_what_its_host_changes,
        what_is_too_large_changes_nothing_for_the_guest,
        a_large_document_reaches_the_guest,
        version_1_answers_beside_a_transfer_at_full_speed,
        version_2_answers_beside_a_transfer_at_full_speed,
    ],
);

fn version_1_answers_in_text_and_in_json() {
    in_own_network(|| {
        let monitor = Monitor::firecracker();
        let script = r#"
            echo text=$(curl $mmds/latest/meta-data/ami-id)
            echo keys=$(curl $mmds/latest/meta-data/)
            echo json=$(curl --header 'Accept: application/json' $mmds/latest)
            echo slash=$(curl --header 'Accept: application/json' $mmds/latest/meta-data/ami-id/)
            echo nothing=$(status $mmds/latest/nothing)
            echo post=$(status --request POST $mmds/latest)
            echo two=$(curl $mmds/latest/meta-data/ami-id $mmds/latest/meta-data/name)
        "#;
        describe(&monitor, script);
        let data = json!({ "latest": { "meta-data": { "ami-id": "ami-1", "name": "guest" } } });
        serve_metadata(&monitor, "V1", data.clone());
        monitor.start();
        let outcome = monitor.end();
        assert_eq!(outcome.status(0).value("text"), "ami-1", "{outcome}");
        assert_eq!(outcome.value("keys"), "ami-id name", "{outcome}");
        let json: serde_json::Value = serde_json::from_str(outcome.value("json")).unwrap();
        assert_eq!(json, data["latest"], "{outcome}");
        assert_eq!(outcome.value("slash"), r#""ami-1""#, "{outcome}");
        assert_eq!(outcome.value("nothing"), "404", "{outcome}");
        assert_eq!(outcome.value("post"), "405", "{outcome}");
        assert_eq!(outcome.value("two"), "ami-1guest", "{outcome}");
    });
}

fn version_2_answers_whoever_has_a_token() {
    in_own_network(|| {
        let monitor = Monitor::firecracker();
        let script = r#"
            token() { curl --request PUT --header "X-metadata-token-ttl-seconds: $1" $mmds/latest/api/token; }
            ask() { status --header "X-metadata-token: $1" $mmds/latest; }
            echo none=$(status $mmds/latest)
            echo wrong=$(ask bm8gdG9rZW4gYXQgYWxs)
            token=$(token 60)
            echo right=$(ask $token)
            echo again=$(curl --header "X-metadata-token: $token" --header 'Accept: application/json' $mmds/latest)
            echo ec2=$(status --header "X-aws-ec2-metadata-token: $token" $mmds/latest)
            echo changed=$(ask ${token%?????}AAAAA)
            echo long=$(status --request PUT --header 'X-metadata-token-ttl-seconds: 21601' $mmds/latest/api/token)
            echo zero=$(status --request PUT --header 'X-metadata-token-ttl-seconds: 0' $mmds/latest/api/token)
            echo lifeless=$(status --request PUT $mmds/latest/api/token)
            forwarded='X-Forwarded-For: 10.0.0.1'
            echo forwarded=$(status --request PUT --header "$forwarded" --header 'X-metadata-token-ttl-seconds: 60' $mmds/latest/api/token)
            short=$(token 1)
            while [ $(ask $short) = 200 ]; do :; done
            echo expired=$(ask $short)
        "#;
        describe(&monitor, script);
        serve_metadata(&monitor, "V2", json!({ "latest": "data" }));
        monitor.start();
        let outcome = monitor.end();
        outcome.status(0);
        for (name, expected) in [
            ("none", "401"),
            ("wrong", "401"),
            ("right", "200"),
            ("again", r#""data""#),
            ("ec2", "200"),
            ("changed", "401"),
            ("long", "400"),
            ("zero", "400"),
            ("lifeless", "400"),
            ("forwarded", "400"),
            ("expired", "401"),
        ] {
            assert_eq!(outcome.value(name), expected, "{name}: {outcome}");
        }
    });
}

fn a_guest_sees_what_its_host_changes() {
    in_own_network(|| {
        let mut monitor = Monitor::firecracker();
        let script = r#"
            echo before=$(curl $mmds/a); echo guest has asked; read line
            echo after=$(curl $mmds/a); echo other=$(curl $mmds/b); echo gone=$(status $mmds/c)
        "#;
        describe(&monitor, script);
        serve_metadata(
            &monitor,
            "V1",
            json!({ "a": "one", "b": "stays", "c": "goes" }),
        );
        monitor.start();
        monitor.wait_for("guest has asked");
        monitor
            .patch("/mmds", json!({ "a": "two", "c": null }))
            .done();
        monitor.type_line("go on");
        let outcome = monitor.end();
        assert_eq!(outcome.status(0).value("before"), "one", "{outcome}");
        assert_eq!(outcome.value("after"), "two", "{outcome}");
        assert_eq!(outcome.value("other"), "stays", "{outcome}");
        assert_eq!(outcome.value("gone"), "404", "{outcome}");
    });
}

fn what_is_too_large_changes_nothing_for_the_guest() {
    in_own_network(|| {
        let mut monitor = Monitor::firecracker_with(&["--mmds-size-limit", "500"]);
        describe(
            &monitor,
            "echo guest is up; read line; echo length=$(curl $mmds/a | wc -c)",
        );
        serve_metadata(&monitor, "V1", json!({ "a": "x".repeat(480) }));
        monitor.start();
        monitor.wait_for("guest is up");
        let large = json!({ "a": "x".repeat(501) });
        monitor.put("/mmds", large.clone()).refused(413, "limit");
        monitor.patch("/mmds", large).refused(413, "limit");
        monitor.type_line("go on");
        let outcome = monitor.end();
        assert_eq!(outcome.status(0).number("length"), 480, "{outcome}");
    });
}

/// Larger than what a C library keeps on its heap.
fn a_large_document_reaches_the_guest() {
    in_own_network(|| {
        let limits = [
            "--mmds-size-limit",
            "600000",
            "--http-api-max-payload-size",
            "600000",
        ];
        let monitor = Monitor::firecracker_with(&limits);
        describe(&monitor, "echo length=$(curl $mmds/a | wc -c)");
        serve_metadata(&monitor, "V1", json!({ "a": "x".repeat(500_000) }));
        monitor.start();
        let outcome = monitor.end();
        assert_eq!(outcome.status(0).number("length"), 500_000, "{outcome}");
    });
}

fn version_1_answers_beside_a_transfer_at_full_speed() {
    in_own_network(|| answers_beside_a_transfer("V1", "ask() { curl $mmds/a; }"));
}

fn version_2_answers_beside_a_transfer_at_full_speed() {
    let ask = r#"
        ask() {
            token=$(curl --request PUT --header 'X-metadata-token-ttl-seconds: 60' $mmds/latest/api/token)
            curl --header "X-metadata-token: $token" --header 'Accept: text/plain' $mmds/a
        }
    "#;
    in_own_network(|| answers_beside_a_transfer("V2", ask));
}

/// 20 MB come through the card and go back again, and meanwhile the service answers. `ask` is how.
fn answers_beside_a_transfer(version: &str, ask: &str) {
    let sent = data();
    let taken = serve(sent.clone());
    let monitor = Monitor::firecracker();
    let script = r#"
        until ping -c 1 -W 1 10.9.0.1 > /dev/null; do :; done
        (nc 10.9.0.1 5000 < /dev/null > /tmp/data; nc 10.9.0.1 5001 < /tmp/data; touch /tmp/over) &
        right=0; wrong=0
        until [ -e /tmp/over ]; do
            if [ "$(ask)" = answer ]; then right=$((right + 1)); else wrong=$((wrong + 1)); fi
        done
        echo right=$right; echo wrong=$wrong
    "#;
    describe(&monitor, &format!("{ask}{script}"));
    serve_metadata(&monitor, version, json!({ "a": "answer" }));
    monitor.start();
    let outcome = monitor.end();
    assert_eq!(outcome.status(0).number("wrong"), 0, "{outcome}");
    assert!(outcome.number("right") > 0, "{outcome}");
    assert!(
        taken.recv().unwrap() == sent,
        "not the bytes that were sent: {outcome}"
    );
}
