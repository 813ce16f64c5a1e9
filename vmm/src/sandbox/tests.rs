//! The lists themselves: how long they are, that each rule has its reason, and the tables of docs/security.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use devices::catalog::{Needs, block_needs, net_needs, rng_needs, vsock_needs};
use devices::syscalls::{Allowance, Condition, Test, Width};
use devices::virtio::block::Engine;

use super::base::DEBUG;
use super::*;

const ROLES: [Role; 4] = [Role::Vmm, Role::Api, Role::Vcpu, Role::Io];
/// Set to write the tables anew.
const UPDATE: &str = "RAVELIN_UPDATE_SYSCALLS";
const BEGIN: &str = "<!-- system calls: made by a test -->\n";
const END: &str = "<!-- end of system calls -->\n";

/// A VM with everything but what is said here: whether it has a socket, and whether it is in a cell.
fn sandbox((has_socket, in_cell): (bool, bool)) -> Sandbox {
    Sandbox {
        mode: Mode::Kill,
        has_socket,
        in_cell,
        has_terminal: true,
    }
}

const KINDS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];
/// What `ravelin api` starts.
const USUAL: (bool, bool) = (true, true);

/// What a release allows.
fn allowed(role: Role, kind: (bool, bool), needs: &[Needs]) -> Vec<Allowance> {
    let mut list = sandbox(kind).allowances(role, needs);
    list.retain(|allowance| !DEBUG.contains(allowance));
    list
}

/// What every kind of VM allows.
fn everywhere(role: Role, needs: &[Needs]) -> Vec<Allowance> {
    let lists = KINDS.map(|kind| sandbox(kind).allowances(role, needs));
    lists.concat()
}

fn calls(role: Role, kind: (bool, bool), needs: &[Needs]) -> BTreeSet<&'static str> {
    let list = allowed(role, kind, needs);
    list.iter().map(|allowance| allowance.call.name).collect()
}

#[test]
fn few_system_calls_are_allowed_with_a_disk_and_a_card() {
    let needs = [block_needs(Engine::Sync), net_needs(false)];
    for kind in KINDS {
        for (role, most) in ROLES.into_iter().zip([40, 25, 20, 19]) {
            let calls = calls(role, kind, &needs);
            assert!(calls.len() <= most, "{role}: {} {calls:?}", calls.len());
        }
    }
}

#[test]
fn no_thread_may_start_connect_trace_or_become_anything() {
    let everything = [
        block_needs(Engine::Sync),
        block_needs(Engine::Uring),
        net_needs(true),
        rng_needs(),
        vsock_needs(false),
    ];
    for role in ROLES {
        for kind in KINDS {
            let calls = calls(role, kind, &everything);
            for name in [
                "clone",
                "clone3",
                "connect",
                "execve",
                "io_uring_setup",
                "mprotect",
                "open",
                "prctl",
                "ptrace",
                "seccomp",
                "socket",
            ] {
                assert!(!calls.contains(name), "{role}: {name}");
            }
            let opens = calls.contains("openat");
            let is_alone = kind == (true, false);
            assert_eq!(opens, role == Role::Vmm && is_alone, "{role}");
        }
    }
}

/// A VM with everything that needs a rule.
fn everything() -> [Needs; 5] {
    [
        block_needs(Engine::Uring),
        net_needs(true),
        rng_needs(),
        vsock_needs(false),
        vsock_needs(true),
    ]
}

#[test]
fn a_vsock_device_outside_of_a_cell_connects_to_unix_sockets_alone() {
    for role in ROLES {
        let list = everywhere(role, &[vsock_needs(true)]);
        let sockets = list.iter().filter(|rule| rule.call.name == "socket");
        let is_unix = |rule: &&Allowance| {
            rule.conditions
                .iter()
                .any(|it| it.words.contains("AF_UNIX"))
        };
        let (all, unix) = (sockets.clone().count(), sockets.filter(is_unix).count());
        let expected = usize::from(role == Role::Io) * KINDS.len();
        assert_eq!((all, unix), (expected, expected), "{role}");
    }
}

#[test]
fn every_rule_has_its_reason_and_its_words() {
    let everything = everything();
    for role in ROLES {
        for rule in everywhere(role, &everything) {
            assert!(rule.why.len() > 5, "{rule:?}");
            let words = rule.conditions.iter();
            assert!(words.clone().all(|it| it.words.len() > 5), "{rule:?}");
        }
    }
}

#[test]
fn a_call_whose_arguments_count_is_never_allowed_whatever_they_are() {
    let everything = everything();
    for role in ROLES {
        for rule in everywhere(role, &everything) {
            let counts = [
                "fallocate",
                "fcntl",
                "futex",
                "getsockopt",
                "ioctl",
                "io_uring_register",
                "madvise",
                "mmap",
                "mremap",
                "openat",
                "recvfrom",
                "sendto",
                "socket",
                "tgkill",
            ];
            let free = rule.conditions.is_empty();
            assert!(!free || !counts.contains(&rule.call.name), "{rule:?}");
        }
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md")
}

/// The lists of a release, as tables.
fn tables() -> String {
    let block = block_needs(Engine::Sync);
    let uring = block_needs(Engine::Uring);
    let (net, mmds, rng) = (net_needs(false), net_needs(true), rng_needs());
    let vsock = [vsock_needs(false), vsock_needs(true)];
    let whole = [block, uring, mmds, rng, vsock[0], vsock[1]];
    let mut text = String::new();
    let counts = ROLES.map(|role| calls(role, USUAL, &[block, net]).len());
    // In a cell nobody connects.
    let all = ROLES.map(|role| calls(role, USUAL, &whole[..5]).len());
    let [vmm, api, vcpu, io] = counts;
    let _ = writeln!(
        text,
        "Distinct system calls with a disk (`sync`) and a network card: vmm {vmm}, api {api}, vcpu {vcpu}, io {io}; \
         with everything that a VM can have: vmm {}, api {}, vcpu {}, io {}. Without a cell (`--no-jail`, `firecracker`) \
         the main thread of the first has {}.\n",
        all[0],
        all[1],
        all[2],
        all[3],
        calls(Role::Vmm, (true, false), &[block, net]).len()
    );
    text.push_str("| call | rule | threads | why |\n| --- | --- | --- | --- |\n");
    for ((name, rule, why), roles) in rows(&whole) {
        let roles: Vec<_> = roles.iter().map(Role::to_string).collect();
        let _ = writeln!(text, "| `{name}` | {rule} | {} | {why} |", roles.join(" "));
    }
    text
}

type Row = (&'static str, String, &'static str);

/// Every rule once, with the roles that have it in some VM.
fn rows(needs: &[Needs]) -> BTreeMap<Row, Vec<Role>> {
    let mut rows: BTreeMap<Row, Vec<Role>> = BTreeMap::new();
    for role in ROLES {
        for kind in KINDS {
            if role == Role::Api && !kind.0 {
                continue;
            }
            for rule in allowed(role, kind, needs) {
                let words: Vec<_> = rule.conditions.iter().map(|it| it.words).collect();
                let row = (rule.call.name, words.join(", "), rule.why);
                let roles = rows.entry(row).or_default();
                if !roles.contains(&role) {
                    roles.push(role);
                }
            }
        }
    }
    rows
}

/// The rules of a release as JSON, a list of those of each role (`tools/syscalls`).
fn listed() -> serde_json::Value {
    let whole = everything();
    let condition = |condition: &Condition| {
        serde_json::json!({
            "argument": condition.argument,
            "bytes": match condition.width {
                Width::Four => 4,
                Width::Eight => 8,
            },
            "test": match condition.test {
                Test::Is(value) => serde_json::json!(["is", value]),
                Test::Without(bits) => serde_json::json!(["without", bits]),
                Test::Masked { of, is } => serde_json::json!(["masked", of, is]),
                Test::ThisProcess => serde_json::json!(["this process"]),
            },
            "words": condition.words,
        })
    };
    let mut list = Vec::new();
    for role in ROLES {
        let mut rules = KINDS.map(|kind| allowed(role, kind, &whole)).concat();
        let mut seen = Vec::new();
        rules.retain(|rule| {
            let is_new = !seen.contains(rule);
            seen.push(*rule);
            is_new
        });
        list.extend(rules.iter().map(|rule| {
            serde_json::json!({
                "role": role.to_string(),
                "call": rule.call.name,
                "number": rule.call.number,
                "conditions": rule.conditions.iter().map(condition).collect::<Vec<_>>(),
                "why": rule.why,
            })
        }));
    }
    list.into()
}

#[test]
fn a_program_reads_the_rules() {
    let text = serde_json::to_string(&listed()).unwrap();
    let rules: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(rules.iter().all(|rule| rule["number"].is_i64()));
    if let Some(path) = env::var_os("RAVELIN_SYSCALL_RULES") {
        fs::write(path, text).unwrap();
    }
}

#[test]
fn the_tables_of_the_security_page_are_those_of_the_filters() {
    let path = page();
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let made = tables();
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        found, made,
        "{UPDATE}=1 cargo test -p vmm tables writes them"
    );
}
