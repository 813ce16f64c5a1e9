//! Processors, memory, tables, entropy and time, as a guest finds them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::guest::Guest;
use crate::kit;

crate::tests!(
    STOCK => [
        a_stock_guest_has_4_vcpus_online,
        a_stock_guest_runs_in_256_mib,
        a_stock_guest_has_entropy_from_virtio,
    ],
    TRIMMED => [
        one_vcpu_is_online,
        two_vcpus_are_online,
        four_vcpus_are_online,
        thirty_two_vcpus_are_online,
        memory_goes_on_behind_the_32_bit_gap,
        without_acpi_the_mp_table_brings_every_vcpu_online,
        without_acpi_the_command_line_describes_the_disk,
        the_entropy_device_gives_bytes,
        the_guests_clock_is_the_hosts,
    ],
);

/// What the kernel keeps for itself before it counts, at most: itself, where there is memory above 4 GiB a 64 MiB
/// buffer for devices that cannot reach it, and 1/64 of the memory to describe the rest.
const RESERVED_MIB: u64 = 60;
const BOUNCE_MIB: u64 = 64;
const DESCRIBED_BY: u64 = 64;
/// How far a clock that shows seconds, read at different moments, may be off.
const CLOCK_SLACK_SECONDS: u64 = 2;

fn a_stock_guest_has_4_vcpus_online() {
    has_online(Guest::stock(), 4);
}

fn a_stock_guest_runs_in_256_mib() {
    has_memory(Guest::stock(), 256);
}

fn a_stock_guest_has_entropy_from_virtio() {
    let outcome = Guest::stock()
        .script("echo rng=$(cat /sys/class/misc/hw_random/rng_current)")
        .run();
    assert!(
        outcome.status(0).value("rng").starts_with("virtio_rng"),
        "{outcome}"
    );
}

fn one_vcpu_is_online() {
    has_online(Guest::trimmed(), 1);
}

fn two_vcpus_are_online() {
    has_online(Guest::trimmed(), 2);
}

fn four_vcpus_are_online() {
    has_online(Guest::trimmed(), 4);
}

fn thirty_two_vcpus_are_online() {
    has_online(Guest::trimmed(), 32);
}

fn memory_goes_on_behind_the_32_bit_gap() {
    has_memory(Guest::trimmed(), 5 << 10);
}

fn without_acpi_the_mp_table_brings_every_vcpu_online() {
    has_online(Guest::trimmed().flag("--cmdline", "acpi=off"), 2);
}

fn without_acpi_the_command_line_describes_the_disk() {
    let root = format!("{},ro", kit::file("root.ext4").display());
    let guest = Guest::new()
        .kernel("vmlinux-trimmed")
        .flag("--cmdline", "acpi=off")
        .flag("--root", root);
    let outcome = guest
        .script("[ -e /sys/firmware/acpi ] && echo acpi is on; echo root=$(stat -f -c %T /)")
        .run();
    assert!(
        outcome.status(0).value("root").starts_with("ext"),
        "{outcome}"
    );
    assert!(!outcome.console.contains("acpi is on"), "{outcome}");
}

fn the_entropy_device_gives_bytes() {
    let outcome = Guest::trimmed()
        .script("echo bytes=$(head -c 100 /dev/hwrng | wc -c)")
        .run();
    assert_eq!(outcome.status(0).number("bytes"), 100, "{outcome}");
}

fn the_guests_clock_is_the_hosts() {
    let before = now();
    let outcome = Guest::trimmed().script("echo time=$(date +%s)").run();
    let times = before - CLOCK_SLACK_SECONDS..=now() + CLOCK_SLACK_SECONDS;
    assert!(
        times.contains(&outcome.status(0).number("time")),
        "{times:?} was expected: {outcome}"
    );
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Asserts that so many vCPUs are online, and that each of them runs a program.
fn has_online(guest: Guest, cpus: u64) {
    let script = "echo online=$(nproc); \
                  echo ran=$(for n in $(seq 0 $(($(nproc) - 1))); do \
                      taskset -c $n sh -c 'read -r stat < /proc/self/stat; set -- $stat; echo ${39}'; done | sort -u | wc -l)";
    let outcome = guest.flag("--cpus", cpus.to_string()).script(script).run();
    assert_eq!(outcome.status(0).number("online"), cpus, "{outcome}");
    assert_eq!(outcome.number("ran"), cpus, "{outcome}");
}

/// Asserts that the guest finds its memory, and can use most of what it finds at once.
fn has_memory(guest: Guest, mib: u64) {
    let script = "echo kib=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)";
    let outcome = guest.flag("--mem", format!("{mib}M")).script(script).run();
    let bounce = if mib > 3 << 10 { BOUNCE_MIB } else { 0 };
    let expected = mib - mib / DESCRIBED_BY - RESERVED_MIB - bounce..=mib;
    assert!(
        expected.contains(&(outcome.status(0).number("kib") >> 10)),
        "{expected:?} was expected: {outcome}"
    );
}
