//! Every way to end, with its exit status and ravelin's last line.

use rustix::process::Signal;

use crate::guest::Guest;

crate::tests!(
    STOCK => [
        a_stock_guest_that_powers_off_gives_0,
        a_stock_guest_obeys_the_power_button,
        a_stock_guest_that_reboots_gives_120,
    ],
    TRIMMED => [
        a_command_gives_its_status,
        a_command_that_is_killed_gives_128_and_its_signal,
        a_guest_that_reboots_gives_120,
        a_guest_that_panics_gives_121,
        a_triple_fault_gives_122,
        a_guest_whose_time_is_over_gives_124,
        sigint_ends_the_guest_and_gives_130,
        sigterm_lets_a_guest_that_listens_power_off,
        sighup_lets_a_guest_that_listens_power_off,
        a_second_sigterm_ends_a_guest_that_does_not_listen_and_gives_143,
    ],
);

/// Lives until it is ended.
const WAITS: &str = "echo guest is waiting; read never; echo never comes";
/// The same, without a driver for the power button.
const DEAF: &str = "echo PNP0C0C:00 > /sys/bus/acpi/drivers/button/unbind || exit 1; echo guest is waiting; read never";

fn a_stock_guest_that_powers_off_gives_0() {
    Guest::stock()
        .script("poweroff -f")
        .run()
        .status(0)
        .last_line("the guest powered off");
}

fn a_stock_guest_obeys_the_power_button() {
    obeys_the_button(Guest::stock(), Signal::TERM);
}

fn a_stock_guest_that_reboots_gives_120() {
    Guest::stock()
        .script("reboot -f")
        .run()
        .status(120)
        .last_line("the guest rebooted");
}

fn a_command_gives_its_status() {
    let outcome = Guest::trimmed().script("exit 93").run();
    outcome.status(93).last_line("its command's status was 93");
}

fn a_command_that_is_killed_gives_128_and_its_signal() {
    let outcome = Guest::trimmed().script("kill -9 $$").run();
    outcome
        .status(137)
        .last_line("its command's status was 137");
}

fn a_guest_that_reboots_gives_120() {
    Guest::trimmed()
        .script("reboot -f")
        .run()
        .status(120)
        .last_line("the guest rebooted");
}

fn a_guest_that_panics_gives_121() {
    let outcome = Guest::trimmed()
        .script("echo before; echo c > /proc/sysrq-trigger; echo it lives on")
        .run();
    outcome
        .said("before")
        .said("Kernel panic")
        .status(121)
        .last_line("panicked");
    assert!(!outcome.console.contains("it lives on"), "{outcome}");
}

fn a_triple_fault_gives_122() {
    let outcome = Guest::trimmed()
        .flag("--cmdline", "reboot=t")
        .script("echo before; reboot -f")
        .run();
    outcome.said("before").status(122).last_line("triple fault");
}

fn a_guest_whose_time_is_over_gives_124() {
    let outcome = Guest::trimmed().flag("--timeout", "1s").script(WAITS).run();
    outcome.status(124).last_line("its 1s are over");
}

fn sigint_ends_the_guest_and_gives_130() {
    let guest = Guest::trimmed().script(WAITS).start();
    guest.wait_for("guest is waiting");
    guest.signal(Signal::INT);
    guest.end().status(130).last_line("ended by its user");
}

fn sigterm_lets_a_guest_that_listens_power_off() {
    obeys_the_button(Guest::trimmed(), Signal::TERM);
}

fn sighup_lets_a_guest_that_listens_power_off() {
    obeys_the_button(Guest::trimmed(), Signal::HUP);
}

fn a_second_sigterm_ends_a_guest_that_does_not_listen_and_gives_143() {
    let guest = Guest::trimmed().script(DEAF).start();
    guest.wait_for("guest is waiting");
    guest.signal(Signal::TERM);
    guest.wait_for_error("pressed the guest's power button");
    guest.signal(Signal::TERM);
    guest
        .end()
        .status(143)
        .last_line("ended by a second signal");
}

fn obeys_the_button(guest: Guest, signal: Signal) {
    let guest = guest.script(WAITS).start();
    guest.wait_for("guest is waiting");
    guest.signal(signal);
    guest.wait_for_error("pressed the guest's power button");
    let outcome = guest.end();
    outcome.status(0).last_line("the guest powered off");
    assert!(!outcome.console.contains("never comes"), "{outcome}");
}
