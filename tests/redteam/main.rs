//! Proof by attack: a monitor whose own threads attack the host, and what each wall of the jail does about it.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod arena;
#[path = "../support/build.rs"]
mod build;
#[path = "../run/guest.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod guest;
mod host;
#[path = "../support/isolated.rs"]
mod isolated;
mod manual;
mod matrix;
mod monitor;
mod page;
mod shim;
#[path = "../support/monitor.rs"]
mod support;
mod table;
#[path = "../support/ttrpc.rs"]
mod ttrpc;

use std::fs;
use std::path::{Path, PathBuf};

use arena::{User, attacking, landlock_version};
use matrix::{alone, attack, attack_filters, baseline, check, is_heap, needs_ids};
use monitor::{Monitor, Role};
use page::Outcome;
use table::{Row, Wall, Without};

/// What stands in the binary of a red team alone.
const MARKS: [&[u8]; 2] = [b"RAVELIN_REDTEAM", b"/mnt/no-program"];

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// Nothing but KVM around a monitor.
const NOTHING: [&str; 2] = ["--no-jail", "--no-seccomp"];
/// All walls of the table but the filters, which would end a monitor before any other wall is asked. A security module's
/// label stops more than the table says, on the hosts that have one.
const NO_FILTERS: [&str; 3] = ["--no-seccomp", "--jail-without", "label"];

#[test]
fn each_wall_alone_stops_what_it_should() {
    attacking(|arena| {
        let nothing = attack(arena, User::Root, &flags(&NOTHING));
        let possible = baseline(&nothing);
        let landlock = landlock_version();
        for (wall, name) in Wall::COLUMNS {
            if wall == Wall::Files && landlock == 0 {
                eprintln!("SKIPPED landlock: this kernel has none");
                continue;
            }
            let results = attack(arena, User::Root, &alone(wall, name));
            check(name, &results, &possible, |row| {
                let walls = row.walls.iter().filter(|one| one.landlock() <= landlock);
                let mut walls = walls.map(|one| one.column());
                walls.any(|one| one == wall || (needs_ids(wall) && one == Wall::Ids))
            });
        }
    });
}

#[test]
fn the_filters_alone_kill_for_everything_but_memory() {
    attacking(|arena| {
        let alone = alone(Wall::Root, "seccomp");
        for result in attack_filters(arena, User::Root, &alone) {
            let expected = match result.row.attack {
                // By calls that every thread needs; it is refused outside.
                "ask-warden" => Outcome::Stopped(libc::EACCES),
                _ if is_heap(&result) => Outcome::Through(0),
                _ => Outcome::Killed(libc::SIGSYS),
            };
            assert_eq!(result.outcome, expected, "{result:?}");
        }
    });
}

#[test]
fn the_other_walls_together_stop_what_any_of_them_does() {
    attacking(|arena| {
        let nothing = attack(arena, User::Root, &flags(&NOTHING));
        let possible = baseline(&nothing);
        let all = attack(arena, User::Root, &flags(&NO_FILTERS));
        check("all walls", &all, &possible, stops);
    });
}

/// Whether a wall that this kernel has stops a row.
fn stops(row: &Row) -> bool {
    let landlock = landlock_version();
    row.walls.iter().any(|wall| wall.landlock() <= landlock)
}

#[test]
fn an_ordinary_users_other_walls_stop_what_any_of_them_does() {
    attacking(|arena| {
        let roots = attack(arena, User::Root, &flags(&NOTHING));
        let possible = baseline(&roots);
        let nothing = attack(arena, User::Ordinary, &flags(&NOTHING));
        let is_ordinary = |row: &Row| row.without == Without::Ordinary;
        check("an ordinary user", &nothing, &possible, is_ordinary);
        let all = attack(arena, User::Ordinary, &flags(&NO_FILTERS));
        let landlock = landlock_version();
        check("an ordinary user's walls", &all, &possible, |row| {
            let walls = row.walls.iter().filter(|one| one.landlock() <= landlock);
            let mut walls = walls.filter(|wall| wall.is_everybodys());
            is_ordinary(row) || walls.next().is_some()
        });
    });
}

#[test]
fn all_walls_stop_everything() {
    attacking(|arena| {
        for result in attack_filters(arena, User::Root, &[]) {
            assert!(result.is_stopped(), "{result:?}");
        }
    });
}

#[test]
fn the_walls_of_a_monitor_that_containerds_shim_has_started_stop_everything() {
    if shim::program().is_none() {
        let required = std::env::var("RAVELIN_GUESTS").is_ok_and(|value| value == "required");
        assert!(!required, "containerd's shim is not built");
        eprintln!("SKIPPED: containerd's shim is not built: cargo build -p shim");
        return;
    }
    attacking(|arena| {
        for result in attack_filters(arena, User::Shim, &[]) {
            assert!(result.is_stopped(), "{result:?}");
        }
        let nothing = attack(arena, User::Root, &flags(&NOTHING));
        let possible = baseline(&nothing);
        let others = attack(arena, User::Shim, &flags(&NO_FILTERS));
        check("a shim's other walls", &others, &possible, stops);
    });
}

#[test]
fn an_ordinary_users_walls_stop_everything() {
    attacking(|arena| {
        for result in attack_filters(arena, User::Ordinary, &[]) {
            assert!(result.is_stopped(), "{result:?}");
        }
    });
}

/// What one monitor does to another that it knows the number of.
const REACHES: [&str; 9] = [
    "kill",
    "prlimit",
    "pidfd-open",
    "pidfd-getfd",
    "ptrace",
    "read-memory",
    "open-proc",
    "kill-all",
    "join",
];

/// Whether each thread of a monitor reaches another monitor, in each way.
fn reaches(arena: &arena::Arena, user: User, flags: &[&str]) -> Vec<(&'static str, Role, bool)> {
    let mut one = Monitor::start(arena, user, flags);
    let mut other = Monitor::start(arena, user, flags);
    let met = other.attack(Role::Vmm, "meet", 0);
    assert_eq!(met, Outcome::Through(0));
    let victim = other.pid();
    let mut found = Vec::new();
    for way in REACHES {
        for role in Role::ALL {
            let outcome = one.attack(role, way, victim);
            found.push((way, role, matches!(outcome, Outcome::Through(_))));
        }
    }
    assert!(!other.has_ended() && !one.has_ended());
    found
}

fn assert_apart(arena: &arena::Arena, user: User) {
    // Without a jail they can: every way is one.
    for (way, role, reached) in reaches(arena, user, &NOTHING) {
        assert!(reached, "{way} by {role:?} is no attack");
    }
    for (way, role, reached) in reaches(arena, user, &NO_FILTERS) {
        assert!(!reached, "one reached the other: {way} by {role:?}");
    }
}

#[test]
fn two_monitors_of_roots_cannot_reach_each_other() {
    attacking(|arena| assert_apart(arena, User::Root));
}

#[test]
fn two_monitors_of_one_user_cannot_reach_each_other() {
    attacking(|arena| assert_apart(arena, User::Ordinary));
}

#[test]
fn the_manual_says_what_is_measured() {
    manual::assert_current();
}

#[test]
fn no_binary_that_users_get_has_a_red_team() {
    let has_mark = |path: &Path| {
        let code = fs::read(path).unwrap();
        MARKS.map(|mark| code.windows(mark.len()).any(|it| it == mark))
    };
    assert_eq!(has_mark(&arena::red_team()), [true; 2]);
    // The release too, where there is one.
    let released = std::env::var_os("RAVELIN_BIN").map(PathBuf::from);
    let ordinary = PathBuf::from(env!("CARGO_BIN_EXE_ravelin"));
    for users in [ordinary].into_iter().chain(released) {
        assert_eq!(has_mark(&users), [false; 2], "{}", users.display());
    }
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(
        manifest.contains("\nredteam = ["),
        "the feature is one of this package's"
    );
    assert!(
        !manifest.contains("\ndefault = "),
        "nothing is on by default"
    );
}
