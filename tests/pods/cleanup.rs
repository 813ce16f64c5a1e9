//! What is left when containers are gone: nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::engine::Engine;
use crate::traces::traces;

crate::tests![containers_by_the_dozen_leave_nothing];

/// How many there are, if the environment does not say.
const ALL: u32 = 50;
/// How many of them at once.
const AT_ONCE: u32 = 3;

/// `RAVELIN_CONTAINERS`, or 50: in the testbed 50 take ten minutes, so there they are fewer.
fn all() -> u32 {
    std::env::var("RAVELIN_CONTAINERS").map_or(ALL, |number| number.parse().unwrap())
}

fn containers_by_the_dozen_leave_nothing() {
    let engine = Engine::configured("memory_mib = 128");
    let run = |id: &str| {
        let output = engine.run(&["--null-io"], id, &["true"]);
        assert!(output.status.success(), "{output:?}\n{}", engine.log());
    };
    // What the first one makes may stay: directories that are shared, the cached disk.
    run("first");
    let before = traces(&engine);
    let (next, end) = (AtomicU32::new(0), all());
    let work = || {
        let numbers = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < end);
        std::iter::from_fn(numbers).for_each(|number| run(&format!("c{number}")));
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let after = traces(&engine);
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "{left:#?}");
}
