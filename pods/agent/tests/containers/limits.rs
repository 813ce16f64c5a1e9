//! What a guest's cgroups hold a container to.

use protocol::api::{Empty, Interface, SetupRequest, StatsReply, UpdateRequest};
use serde_json::json;

use crate::client::{Caller, container, named, patient, said};
use crate::guest::MEMORY;

/// Takes memory without end: a variable that doubles.
const HOG: &str = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";

async fn stats(caller: &Caller) -> StatsReply {
    caller.agent.stats(patient(), &named("c")).await.unwrap()
}

async fn well(caller: &Caller) {
    let ended = caller.run("well", &container("echo well"), b"").await;
    assert_eq!(ended.text(), "well\n");
}

pub(crate) async fn too_much_memory_is_an_event_and_137(caller: Caller) {
    let mut spec = container(HOG);
    spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    caller.lasting("c", &spec).await;
    assert_eq!(caller.wait("c", "").await, 137);
    let event = caller
        .agent
        .next_event(patient(), &Empty::new())
        .await
        .unwrap();
    assert_eq!((event.container.as_str(), event.oom), ("c", true));
    let stats = stats(&caller).await;
    assert_eq!((stats.oom_kills, stats.memory_limit_bytes), (1, 16 << 20));
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_part_of_a_processor_is_no_more_than_that(caller: Caller) {
    let mut spec = container("while :; do :; done");
    spec["linux"]["resources"]["cpu"] = json!({"quota": 10_000, "period": 100_000});
    caller.lasting("c", &spec).await;
    let mut now = stats(&caller).await;
    while now.cpu_throttled < 5 {
        tokio::task::yield_now().await;
        now = stats(&caller).await;
    }
    // A period's quota, and what a tick lets it overrun.
    assert!(now.cpu_usage_us <= now.cpu_periods * 30_000, "{now}");
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_container_has_so_many_processes(caller: Caller) {
    let mut spec =
        container("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; exec sleep 1000");
    spec["linux"]["resources"]["pids"] = json!({"limit": 5});
    caller.lasting("c", &spec).await;
    let mut now = stats(&caller).await;
    while now.pids == 0 {
        now = stats(&caller).await;
    }
    assert!(now.pids <= 5 && now.pids_limit == 5, "{now}");
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_pause_stops_all_and_a_resume_lets_them_go_on(caller: Caller) {
    caller.lasting("c", &container("while :; do :; done")).await;
    caller.agent.pause(patient(), &named("c")).await.unwrap();
    let before = stats(&caller).await.cpu_usage_us;
    let ended = caller
        .run(
            "other",
            &container("i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done"),
            b"",
        )
        .await;
    assert_eq!(ended.status, 0);
    assert_eq!(stats(&caller).await.cpu_usage_us, before);
    caller.agent.resume(patient(), &named("c")).await.unwrap();
    while stats(&caller).await.cpu_usage_us == before {
        tokio::task::yield_now().await;
    }
    // One that is paused can be removed.
    caller.agent.pause(patient(), &named("c")).await.unwrap();
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn limits_of_a_container_that_runs_are_changed(caller: Caller) {
    caller.lasting("c", &container("exec sleep 1000")).await;
    let mut request = UpdateRequest::new();
    request.container = "c".into();
    request.resources = json!({"memory": {"limit": 32 << 20}, "pids": {"limit": 9}})
        .to_string()
        .into_bytes();
    caller.agent.update(patient(), &request).await.unwrap();
    let now = stats(&caller).await;
    assert_eq!((now.memory_limit_bytes, now.pids_limit), (32 << 20, 9));
    request.resources = json!({"unified": {"cgroup.procs": "1"}})
        .to_string()
        .into_bytes();
    said(caller.agent.update(patient(), &request).await);
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn figures_are_such_as_can_be(caller: Caller) {
    caller
        .lasting(
            "c",
            &container("dd if=/dev/urandom of=/file bs=1M count=4 2>/dev/null; exec sleep 1000"),
        )
        .await;
    let mut now = stats(&caller).await;
    while now.memory_bytes < 4 << 20 {
        now = stats(&caller).await;
    }
    assert!(now.memory_bytes < MEMORY << 20, "{now}");
    assert!(
        now.cpu_usage_us > 0 && now.cpu_usage_us >= now.cpu_user_us,
        "{now}"
    );
    assert!(
        now.pids >= 1 && now.guest_memory_bytes < MEMORY << 20,
        "{now}"
    );
    let pids = caller
        .agent
        .pids(patient(), &named("c"))
        .await
        .unwrap()
        .pids;
    assert!(!pids.is_empty(), "{pids:?}");
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn the_guest_is_as_its_host_describes_it(caller: Caller) {
    let mut request = SetupRequest::new();
    request.hostname = "pod-1".into();
    request.resolv_conf = "nameserver 10.0.0.1\n".into();
    request.sysctls = [("net.ipv4.ip_forward".into(), "1".into())].into();
    request.time_ns = 2_000_000_000_000_000_000;
    caller.agent.setup(patient(), &request).await.unwrap();
    let script = "cat /proc/sys/net/ipv4/ip_forward /etc/resolv.conf; date -u +%Y; hostname";
    let mut spec = container(script);
    spec["hostname"] = "".into();
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/etc/resolv.conf", "type": "bind",
        "source": "/run/ravelin/files/resolv.conf", "options": ["bind", "ro"]}));
    let ended = caller.run("c", &spec, b"").await;
    assert_eq!(ended.text(), "1\nnameserver 10.0.0.1\n2033\npod-1\n");
    let mut interface = Interface::new();
    interface.name = "eth0".into();
    interface.mac = "aa:fc:00:00:00:99".into();
    request.interfaces = vec![interface];
    let sentence = said(caller.agent.setup(patient(), &request).await);
    assert!(sentence.contains("no interface"), "{sentence}");
}

pub(crate) async fn every_process_gets_a_signal_for_all(caller: Caller) {
    let script = "sleep 1000 & sleep 1000 & wait; echo done";
    caller.lasting("c", &container(script)).await;
    while stats(&caller).await.pids < 3 {}
    caller.signal("c", "", 9, true).await.unwrap();
    assert_eq!(caller.wait("c", "").await, 137);
    assert_eq!(stats(&caller).await.pids, 0);
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_disk_of_the_guest_is_not_read(caller: Caller) {
    let script =
        "mknod /disk b 254 0 && (cat /disk > /dev/null) 2>&1; echo x > /dev/null && echo works";
    let ended = caller.run("c", &container(script), b"").await;
    assert!(
        ended.text().contains("Operation not permitted"),
        "{}",
        ended.text()
    );
    assert!(ended.text().ends_with("works\n"), "{}", ended.text());
}

pub(crate) async fn a_container_sees_its_own_cgroup_alone(caller: Caller) {
    let mut spec = container(
        "cat /proc/self/cgroup; ls /sys/fs/cgroup/pod 2>/dev/null; cat /sys/fs/cgroup/cgroup.procs",
    );
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
    );
    let ended = caller.run("c", &spec, b"").await;
    assert!(ended.text().starts_with("0::/\n1\n"), "{}", ended.text());
}

pub(crate) async fn a_hog_without_a_limit_does_not_take_the_agent_down(caller: Caller) {
    caller.lasting("c", &container(HOG)).await;
    assert_eq!(caller.wait("c", "").await, 137);
    caller.remove("c", "").await.unwrap();
    well(&caller).await;
}

pub(crate) async fn a_fork_bomb_does_not_take_the_agent_down(caller: Caller) {
    let mut spec = container("bomb() { bomb | bomb & }; bomb; exec sleep 1000");
    spec["linux"]["resources"]["pids"] = json!({"limit": 200});
    caller.lasting("c", &spec).await;
    while stats(&caller).await.pids < 20 {}
    well(&caller).await;
    caller.remove("c", "").await.unwrap();
    well(&caller).await;
}

pub(crate) async fn a_full_root_does_not_take_the_agent_down(caller: Caller) {
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M 2>/dev/null; dd if=/dev/zero of=/x bs=1M 2>/dev/null; echo full";
    let ended = caller.run("c", &container(script), b"").await;
    assert_eq!(ended.text(), "full\n");
    well(&caller).await;
}

/// What the agent itself takes, and its containers cannot have.
pub(crate) async fn the_agent_is_small(caller: Caller) {
    let mut spec = container("exec sleep 1000");
    spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
    caller.lasting("c", &spec).await;
    let now = stats(&caller).await;
    eprintln!("guest memory in use: {} KiB", now.guest_memory_bytes / 1024);
    assert!(now.guest_memory_bytes < 48 << 20, "{now}");
    caller.remove("c", "").await.unwrap();
}
