//! Whatever carries a container is killed, at each stage of its life.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::engine::Engine;
use crate::traces::traces;

crate::tests![
    a_killed_monitor_ends_its_container_at_each_stage,
    a_killed_shim_ends_its_container_at_each_stage,
    a_killed_containerd_finds_its_containers_again_at_each_stage,
];

/// Longer than a clean-up takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is made and not started.
    Created,
    Running,
    /// A further process runs in it.
    Executing,
    /// It has ended and is not deleted.
    Exited,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Created, Self::Running, Self::Executing, Self::Exited];

    /// The name of the container that is there.
    fn id(self) -> &'static str {
        match self {
            Self::Created => "victim-created",
            Self::Running => "victim-running",
            Self::Executing => "victim-executing",
            Self::Exited => "victim-exited",
        }
    }

    /// Its state, in ctr's words.
    fn state(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::Running | Self::Executing => "RUNNING",
            Self::Exited => "STOPPED",
        }
    }

    /// Brings a container there; whoever waits for its further process.
    fn reach(self, engine: &Engine) -> Option<Child> {
        let id = self.id();
        match self {
            Self::Created => {
                // ctr cannot note the number, which it does before it starts a container.
                let first = ["run", "-d", "--null-io", "--pid-file", "/nonexistent/pid"];
                engine.ctr(&Engine::words(&first, &[], id, &["sleep", "1000"]));
            }
            Self::Running | Self::Executing => engine.begin(&[], id, &["sleep", "1000"]),
            Self::Exited => engine.begin(&[], id, &["true"]),
        }
        engine.await_state(id, self.state());
        (self == Self::Executing).then(|| execute(engine, id))
    }
}

/// A further process, which runs.
fn execute(engine: &Engine, id: &str) -> Child {
    let script = "echo ready; exec sleep 2000";
    let words = ["task", "exec", "--exec-id", "e", id, "sh", "-c", script];
    let mut child = engine.command(&words).spawn().unwrap();
    let mut ready = [0; 6];
    let said = child.stdout.as_mut().unwrap().read_exact(&mut ready);
    assert!(said.is_ok(), "{}", engine.log());
    child
}

/// Kills by `hit` when there is a container at each stage, looks at each by `look`, and that nothing is left of it once
/// it is deleted.
fn at_each_stage(hit: impl FnOnce(&mut Engine), look: impl Fn(&Engine, Stage)) {
    let mut engine = Engine::new();
    let before = traces(&engine);
    let waiting = thread::scope(|scope| {
        let engine = &engine;
        let all = Stage::ALL.map(|stage| scope.spawn(move || stage.reach(engine)));
        all.map(|one| one.join().unwrap())
    });
    hit(&mut engine);
    for stage in Stage::ALL {
        look(&engine, stage);
        engine.ctr(&["task", "rm", "-f", stage.id()]);
        assert_eq!(
            engine.state(stage.id()),
            None,
            "{stage:?}: {}",
            engine.log()
        );
        engine.ok(&["container", "rm", stage.id()]);
    }
    for mut child in waiting.into_iter().flatten() {
        // ctr may wait on for a containerd that is gone; timeout(1) has made a group of it.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
    }
    await_nothing(&engine, &before);
}

/// Waits until nothing is left, but for directories that all containers have in common.
fn await_nothing(engine: &Engine, before: &BTreeSet<String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let after = traces(engine);
        let mut left = after.difference(before).filter(|trace| !is_shared(trace));
        if left.next().is_none() {
            return;
        }
        assert!(Instant::now() < end, "{:#?}", left.collect::<Vec<_>>());
        thread::sleep(Duration::from_millis(100));
    }
}

fn is_shared(trace: &str) -> bool {
    trace.ends_with('/') && !trace.contains("victim") && !trace.starts_with("/run/ravelin-pods/")
}

fn kill(pid: u32) {
    let killed = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

fn a_killed_monitor_ends_its_container_at_each_stage() {
    let hit = |engine: &mut Engine| {
        let pids = Stage::ALL.map(|stage| engine.monitor(stage.id()));
        pids.into_iter().for_each(kill);
    };
    at_each_stage(hit, |engine, stage| {
        engine.await_state(stage.id(), "STOPPED")
    });
}

fn a_killed_shim_ends_its_container_at_each_stage() {
    let hit = |engine: &mut Engine| {
        let pids = Stage::ALL.map(|stage| engine.shim(stage.id()));
        pids.into_iter().for_each(kill);
    };
    at_each_stage(hit, |engine, stage| {
        let end = Instant::now() + PATIENCE;
        // containerd forgets it once it has cleared up.
        while engine
            .state(stage.id())
            .is_some_and(|state| state != "STOPPED")
        {
            assert!(Instant::now() < end, "{stage:?}: {}", engine.log());
            thread::sleep(Duration::from_millis(100));
        }
    });
}

fn a_killed_containerd_finds_its_containers_again_at_each_stage() {
    at_each_stage(Engine::restart, |engine, stage| {
        let state = engine.state(stage.id());
        assert_eq!(
            state.as_deref(),
            Some(stage.state()),
            "{stage:?}: {}",
            engine.log()
        );
        if stage == Stage::Executing {
            let output = engine.exec(stage.id(), "look", &["ps", "-o", "args"]);
            let seen = crate::engine::text(&output);
            let is_there = seen.contains("sleep 1000") && seen.contains("sleep 2000");
            assert!(is_there, "{output:?}\n{}", engine.log());
        }
    });
}
