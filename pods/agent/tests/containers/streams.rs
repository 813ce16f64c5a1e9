//! Standard streams and terminals.

use protocol::api::{ResizePtyRequest, Size, Streams};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Caller, collect, container, of, patient, said, three};

/// What is passed through, bytes.
const MUCH: usize = 20 << 20;

fn data() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..MUCH).map(|_| next()).collect()
}

pub(crate) async fn twenty_megabytes_come_back_the_same(caller: Caller) {
    let sent = data();
    caller
        .create("c", &container("cat"), three())
        .await
        .unwrap();
    let mut stdin = caller.taken("c - stdin").await;
    let stdout = collect(caller.taken("c - stdout").await);
    let _stderr = caller.taken("c - stderr").await;
    caller.start("c", "").await.unwrap();
    let expected = Sha256::digest(&sent);
    tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    assert_eq!(caller.wait("c", "").await, 0);
    let got = stdout.await.unwrap();
    assert_eq!(got.len(), MUCH);
    assert!(Sha256::digest(got) == expected, "other bytes");
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn what_is_written_just_before_the_end_arrives(caller: Caller) {
    let script = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; echo last";
    for _ in 0..3 {
        let ended = caller.run("c", &container(script), b"").await;
        assert!(ended.text().ends_with("line 499\nlast\n"));
        assert_eq!(ended.text().lines().count(), 501);
    }
}

pub(crate) async fn input_is_closed_by_a_request_too(caller: Caller) {
    caller
        .create("c", &container("cat; echo end"), three())
        .await
        .unwrap();
    let mut stdin = caller.taken("c - stdin").await;
    let stdout = collect(caller.taken("c - stdout").await);
    let _stderr = caller.taken("c - stderr").await;
    caller.start("c", "").await.unwrap();
    stdin.write_all(b"all ").await.unwrap();
    // Answered only when it has arrived.
    while !is_read(&caller).await {}
    caller
        .agent
        .close_stdin(patient(), &of("c", ""))
        .await
        .unwrap();
    assert_eq!(caller.wait("c", "").await, 0);
    assert_eq!(stdout.await.unwrap(), b"all end\n");
    caller.remove("c", "").await.unwrap();
}

/// Whether the container's `cat` has been given its input: it waits in a read again.
async fn is_read(caller: &Caller) -> bool {
    let script = "for p in /proc/[0-9]*; do grep -q '^cat$' $p/comm && cat $p/io; done";
    let ended = caller.run_in("c", "look", script, b"").await;
    let text = ended.text();
    // Where the kernel counts nothing a look that took a process is long enough.
    text.is_empty() || text.contains("wchar: 4")
}

pub(crate) async fn a_line_that_names_no_stream_is_refused(caller: Caller) {
    caller
        .create("c", &container("cat"), Streams::new())
        .await
        .unwrap();
    for (line, word) in [
        ("c - stdout", "was not asked for"),
        ("d - stdout", "no container d"),
        ("c x stdout", "no process x"),
        ("c stdout", "three words"),
        ("../c - stdout", "no name"),
    ] {
        let (mut stream, answer) = caller.stream(line).await;
        assert!(answer.contains(word), "{line}: {answer}");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    // Longer than any line.
    let (_stream, answer) = caller.stream(&"x".repeat(10_000)).await;
    assert_eq!(answer, "");
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_stream_is_connected_once(caller: Caller) {
    caller
        .create("c", &container("cat"), three())
        .await
        .unwrap();
    let _first = caller.taken("c - stdout").await;
    // Joined after the answer: another request is answered later.
    let (_, answer) = caller.stream("c - stdout").await;
    assert!(answer.contains("connected to it already"), "{answer}");
    caller.remove("c", "").await.unwrap();
}

fn terminal() -> Streams {
    let mut streams = Streams::new();
    streams.stdin = true;
    streams.stdout = true;
    let mut size = Size::new();
    size.rows = 30;
    size.columns = 100;
    streams.size = Some(size).into();
    streams
}

pub(crate) async fn a_terminal_has_a_name_and_a_size_that_changes(caller: Caller) {
    let mut spec = container("tty; stty size; ls -la /dev/console | cut -c1; read x; stty size");
    spec["process"]["terminal"] = true.into();
    caller.create("c", &spec, terminal()).await.unwrap();
    let mut stdin = caller.taken("c - stdin").await;
    let mut stdout = caller.taken("c - stdout").await;
    caller.start("c", "").await.unwrap();
    let expected = "/dev/pts/0\r\n30 100\r\nc\r\n";
    let mut first = vec![0; expected.len()];
    stdout.read_exact(&mut first).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&first), expected);
    let mut request = ResizePtyRequest::new();
    request.container = "c".into();
    let mut size = Size::new();
    (size.rows, size.columns) = (50, 120);
    request.size = Some(size).into();
    caller.agent.resize_pty(patient(), &request).await.unwrap();
    stdin.write_all(b"\n").await.unwrap();
    assert_eq!(caller.wait("c", "").await, 0);
    let rest = collect(stdout).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("50 120\r\n"));
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_key_interrupts_who_has_the_terminal(caller: Caller) {
    caller.lasting("c", &container("exec sleep 1000")).await;
    let mut process = crate::client::process("echo up; exec sleep 1000");
    process["terminal"] = true.into();
    caller.exec("c", "e", &process, terminal()).await.unwrap();
    let mut stdin = caller.taken("c e stdin").await;
    let mut stdout = caller.taken("c e stdout").await;
    caller.start("c", "e").await.unwrap();
    let mut up = [0; 4];
    stdout.read_exact(&mut up).await.unwrap();
    stdin.write_all(&[3]).await.unwrap();
    assert_eq!(caller.wait("c", "e").await, 130);
    caller.remove("c", "").await.unwrap();
}

pub(crate) async fn a_terminal_has_no_second_output(caller: Caller) {
    let mut spec = container("true");
    spec["process"]["terminal"] = true.into();
    let sentence = said(caller.create("c", &spec, three()).await);
    assert!(sentence.contains("ask for no stderr"), "{sentence}");
}
