//! What is left when containers are gone: nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::engine::Engine;
use crate::traces::traces;

crate::tests![fifty_containers_leave_nothing];

/// How many there are.
const ALL: u32 = 50;
/// How many of them at once.
const AT_ONCE: u32 = 3;

fn fifty_containers_leave_nothing() {
    let engine = Engine::configured("memory_mib = 128");
    let run = |id: &str| {
        let output = engine.run(&["--null-io"], id, &["true"]);
        assert!(output.status.success(), "{output:?}\n{}", engine.log());
    };
    // What the first one makes may stay: directories that are shared, the cached disk.
    run("first");
    let before = traces(&engine);
    let next = AtomicU32::new(0);
    let work = || {
        let numbers = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < ALL);
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
