//! A start is broken off at every step: at each of its system calls, or one in a few, some of its processes are killed.
//! Nothing is left, and the next start with the same name, socket, disk and tap works.

use crate::guest::Guest;
use crate::kit::jailing;
use crate::scene::{Scene, kvm};
use crate::trace::{Role, name, start};

/// A guest that runs, and switches itself off at once: then the sweep goes from the first call to the last.
fn short() -> Guest {
    Guest::default().say("here\n").power_off()
}

/// How many whole starts are counted.
const STARTS: u32 = 5;

/// Kills `kills` at `points` calls of `counted`, from its first to its last.
fn sweep(scene: &Scene<'_>, line: &[String], counted: Role, kills: &[Role], points: u32) {
    // Who clears up is killed too: then it is the user who does.
    let is_cleared = !(kills.contains(&Role::Warden) && kills.contains(&Role::Keeper));
    // A start that waits a little longer has more calls: the shortest of a few is the measure.
    let whole = (0..STARTS).map(|_| start(scene, line, counted, u32::MAX, &[]).calls);
    let calls = whole.min().unwrap();
    let before = scene.everything();
    let mut done = 0;
    for point in 0..points {
        let at = 1 + point * calls.saturating_sub(1) / points.max(2).saturating_sub(1);
        let traced = start(scene, line, counted, at, kills);
        let call = traced.killed_at.map(name);
        let what = format!("{kills:?} killed at call {at} of {calls} of the {counted:?}: {call:?}");
        done += u32::from(call.is_some());
        if !is_cleared {
            let next = scene.runs(line);
            assert_eq!(next.status.code(), Some(0), "{what}: without gc: {next:?}");
            let output = scene.gc();
            assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        }
        let after = scene.everything();
        let left: Vec<_> = after.symmetric_difference(&before).collect();
        assert_eq!(left, Vec::<&String>::new(), "{what}");
        let next = scene.runs(line);
        assert_eq!(next.status.code(), Some(0), "{what}: {next:?}");
    }
    eprintln!("{kills:?}: {done} of {points} points, {calls} calls of the {counted:?}");
    // Some calls come in another number each time: a kill that came after the end was none.
    assert!(done * 4 >= points * 3, "{done} of {points}");
}

/// A sweep with `ravelin run`, in namespaces of its own.
macro_rules! sweeps {
    ($($name:ident: $kills:expr, at $points:literal calls of $counted:ident, $line:ident, $tap:ident;)*) => {$(
        #[test]
        fn $name() {
            jailing(|place| {
                if kvm() {
                    let scene = Scene::new(place, &short()).$tap();
                    sweep(&scene, &scene.$line(), Role::$counted, &$kills, $points);
                }
            });
        }
    )*};
}

sweeps! {
    a_warden_that_is_killed_at_any_call_leaves_nothing:
        [Role::Warden], at 90 calls of Warden, run, without_tap;
    a_monitor_that_is_killed_at_any_call_leaves_nothing:
        [Role::Monitor], at 60 calls of Monitor, run, without_tap;
    a_keeper_that_is_killed_at_any_call_leaves_nothing:
        [Role::Keeper], at 10 calls of Keeper, run, without_tap;
    a_monitor_and_its_warden_that_are_killed_leave_nothing:
        [Role::Monitor, Role::Warden], at 40 calls of Monitor, run, without_tap;
    a_warden_and_its_monitor_that_are_killed_leave_nothing:
        [Role::Warden, Role::Monitor], at 40 calls of Warden, run, without_tap;
    a_warden_that_is_killed_leaves_no_tap:
        [Role::Warden], at 25 calls of Monitor, run, with_tap;
    a_warden_and_its_keeper_that_are_killed_leave_what_gc_clears:
        [Role::Keeper, Role::Warden], at 40 calls of Warden, run, without_tap;
    all_that_are_killed_at_once_leave_what_gc_clears:
        [Role::Keeper, Role::Warden, Role::Monitor], at 40 calls of Monitor, run, without_tap;
    a_warden_of_an_api_that_is_killed_leaves_nothing:
        [Role::Warden], at 30 calls of Warden, api, without_tap;
    a_monitor_of_an_api_that_is_killed_leaves_nothing:
        [Role::Monitor], at 30 calls of Monitor, api, without_tap;
}
