//! What a container is held by, seen from inside.

use protocol::api::PutFileRequest;
use serde_json::{Value, json};

use crate::client::{Caller, container, patient, said, three};

/// What a container prints that is described so and runs this.
async fn says(caller: &Caller, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut spec = container(script);
    change(&mut spec);
    let ended = caller.run("c", &spec, b"").await;
    assert_eq!(
        ended.stderr,
        b"",
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    ended.text()
}

pub(crate) async fn the_container_is_alone(caller: Caller) {
    let script = "echo $$; hostname; echo /proc/[0-9]*; cat /proc/self/oom_score_adj";
    let text = says(&caller, script, |_| {}).await;
    assert_eq!(text, "1\nbox\n/proc/1\n0\n");
}

pub(crate) async fn paths_are_hidden_and_protected(caller: Caller) {
    let script = "wc -c < /proc/meminfo; ls /sys/firmware | wc -l; \
                  (echo x > /proc/sys/kernel/domainname) 2>/dev/null || echo refused; \
                  (echo x > /sys/x) 2>/dev/null || echo refused";
    let text = says(&caller, script, |spec| {
        spec["linux"]["maskedPaths"] = json!(["/proc/meminfo", "/sys/firmware", "/proc/not-there"]);
    })
    .await;
    assert_eq!(text, "0\n0\nrefused\nrefused\n");
}

pub(crate) async fn a_read_only_root_takes_nothing_and_its_mounts_do(caller: Caller) {
    let script = "(echo x > /x) 2>/dev/null || echo refused; echo y > /run/y && cat /run/y";
    let text = says(&caller, script, |spec| {
        spec["root"]["readonly"] = true.into()
    })
    .await;
    assert_eq!(text, "refused\ny\n");
}

pub(crate) async fn the_user_its_groups_and_its_mask_are_as_asked(caller: Caller) {
    let script = "id -u; id -g; id -G; umask; echo $HOME; echo $0 $A; pwd";
    let text = says(&caller, script, |spec| {
        spec["process"]["user"] =
            json!({"uid": 33, "gid": 34, "additionalGids": [35, 36], "umask": 0o027});
        spec["process"]["env"] = json!(["PATH=/bin", "A=b=c"]);
        spec["process"]["cwd"] = "/some/where".into();
    })
    .await;
    assert_eq!(
        text,
        "33\n34\n34 35 36\n0027\n/var/www\n/bin/sh b=c\n/some/where\n"
    );
}

pub(crate) async fn capabilities_are_those_that_were_asked_for(caller: Caller) {
    let script = "grep -E '^(Cap|NoNew)' /proc/self/status | tr -d '\\t'";
    let text = says(&caller, script, |spec| {
        let kill = json!(["CAP_KILL"]);
        let both = json!(["CAP_KILL", "CAP_CHOWN"]);
        spec["process"]["user"] = json!({"uid": 33, "gid": 33});
        spec["process"]["capabilities"] = json!({
            "bounding": both, "permitted": both, "effective": kill, "inheritable": kill, "ambient": kill
        });
    })
    .await;
    let kill = "0000000000000020";
    assert_eq!(
        text,
        format!(
            "CapInh:{kill}\nCapPrm:{kill}\nCapEff:{kill}\nCapBnd:0000000000000021\nCapAmb:{kill}\nNoNewPrivs:1\n"
        )
    );
}

pub(crate) async fn limits_of_a_process_are_set(caller: Caller) {
    let text = says(&caller, "ulimit -n; ulimit -Hn; ulimit -c", |spec| {
        spec["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
        ]);
    })
    .await;
    assert_eq!(text, "100\n200\n0\n");
}

/// mkdir gives ENOTEMPTY (39), sethostname is not there, everything else is allowed.
fn profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 39},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}
        ]
    })
}

pub(crate) async fn a_filter_answers_for_calls_and_arguments(caller: Caller) {
    let script = "mkdir /x 2>&1; kill -USR1 1 2>&1; kill -0 1 && echo allowed; grep ^Seccomp: /proc/self/status";
    for no_new_privileges in [true, false] {
        let text = says(&caller, script, |spec| {
            spec["linux"]["seccomp"] = profile();
            spec["process"]["noNewPrivileges"] = no_new_privileges.into();
        })
        .await;
        assert!(text.contains("Directory not empty"), "{text}");
        assert!(text.contains("Operation not permitted"), "{text}");
        assert!(text.ends_with("allowed\nSeccomp:\t2\n"), "{text}");
    }
}

pub(crate) async fn a_filter_that_allows_by_name_refuses_the_rest(caller: Caller) {
    // Much as Docker's profile is made: a default error, names that are allowed, one with another error.
    let allowed = json!([
        "access",
        "arch_prctl",
        "brk",
        "close",
        "dup2",
        "execve",
        "exit_group",
        "fcntl",
        "fork",
        "fstat",
        "getpid",
        "getppid",
        "getrandom",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "ioctl",
        "lseek",
        "mmap",
        "mprotect",
        "munmap",
        "newfstatat",
        "open",
        "openat",
        "poll",
        "prctl",
        "prlimit64",
        "read",
        "readlink",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setresgid",
        "setresuid",
        "setuid",
        "stat",
        "statx",
        "umask",
        "uname",
        "vfork",
        "wait4",
        "write",
        "clone",
        "capset",
        "capget",
        "sysinfo",
        "getcwd",
        "sendfile",
        "lstat",
        "dup",
        "pipe",
        "pipe2",
        "exit",
        "getsid"
    ]);
    let text = says(&caller, "mkdir /x 2>&1; chroot / 2>&1; echo on", |spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "syscalls": [
                {"names": allowed, "action": "SCMP_ACT_ALLOW"},
                {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
            ]
        });
    })
    .await;
    assert!(text.contains("Operation not permitted"), "{text}");
    assert!(text.contains("Function not implemented"), "{text}");
    assert!(text.ends_with("on\n"), "{text}");
}

async fn put(caller: &Caller, path: &str, data: &[u8]) {
    let mut request = PutFileRequest::new();
    request.path = path.into();
    request.mode = 0o644;
    request.data = data.into();
    caller.agent.put_file(patient(), &request).await.unwrap();
}

pub(crate) async fn a_file_that_was_put_is_bound_where_it_is_wanted(caller: Caller) {
    put(&caller, "v/greeting", b"hello\n").await;
    let files = caller.files();
    let script =
        "cat /etc/greeting /vol/greeting; (echo x > /etc/greeting) 2>/dev/null || echo refused";
    let text = says(&caller, script, |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/etc/greeting", "type": "bind",
            "source": format!("{files}/v/greeting"), "options": ["rbind", "ro", "rprivate"]}));
        mounts.push(json!({"destination": "/vol", "type": "bind",
            "source": format!("{files}/v"), "options": ["rbind"]}));
    })
    .await;
    assert_eq!(text, "hello\nhello\nrefused\n");
}

pub(crate) async fn nothing_else_of_the_guest_is_bound(caller: Caller) {
    let files = caller.files();
    for source in [
        "/",
        "/proc",
        "/etc/passwd",
        &format!("{files}/../containers"),
    ] {
        let mut spec = container("true");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/x", "type": "bind", "source": source, "options": ["bind"]}),
        );
        let sentence = said(caller.create("c", &spec, three()).await);
        assert!(sentence.contains("cannot mount /x"), "{sentence}");
    }
}

pub(crate) async fn a_mount_over_the_root_or_of_another_kind_is_refused(caller: Caller) {
    for (destination, kind) in [
        ("/", "tmpfs"),
        ("/x/..", "tmpfs"),
        ("/x", "ext4"),
        ("/x", "overlay"),
    ] {
        let mut spec = container("true");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": destination, "type": kind, "source": "x"}));
        let sentence = said(caller.create("c", &spec, three()).await);
        assert!(sentence.contains("cannot mount"), "{sentence}");
    }
}

pub(crate) async fn a_sysctl_of_the_whole_guest_is_refused(caller: Caller) {
    let mut spec = container("true");
    spec["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/x"});
    let sentence = said(caller.create("c", &spec, three()).await);
    assert!(sentence.contains("no namespace"), "{sentence}");
    let text = says(&caller, "cat /proc/sys/kernel/msgmax", |spec| {
        spec["linux"]["sysctl"] = json!({"kernel.msgmax": "4242"});
    })
    .await;
    assert_eq!(text, "4242\n");
}

pub(crate) async fn a_network_of_its_own_has_nothing_but_itself(caller: Caller) {
    let script = "ls /sys/class/net; ip -o addr | grep -c 127.0.0.1; grep -c . /proc/net/route";
    let text = says(&caller, script, |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "network"}));
    })
    .await;
    assert_eq!(text, "lo\n1\n1\n");
}

pub(crate) async fn root_of_a_user_namespace_is_nobody_outside(caller: Caller) {
    let script = "id -u; tr -s ' ' < /proc/self/uid_map; ls -l /dev/null | cut -c1; echo x > /dev/null && echo works";
    let text = says(&caller, script, |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["gidMappings"] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        // Its kernel's views are the guest's, which it does not own.
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys");
        spec["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
    })
    .await;
    assert_eq!(text, "0\n 0 100000 65536\nc\nworks\n");
}

pub(crate) async fn what_a_container_writes_is_bounded(caller: Caller) {
    let script = "dd if=/dev/zero of=/big bs=1M count=100 2>/dev/null; echo $?; rm /big; echo y > /small && cat /small";
    assert_eq!(says(&caller, script, |_| {}).await, "1\ny\n");
}
