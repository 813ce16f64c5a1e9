//! Containers, made by the agent for a caller, as a shim asks for them.
//!
//! The same tests run on this machine, as root and without cgroups (`here::`), and in a guest (`guest::`), where the
//! machine can boot one and the guest kit has `agent.cpio`. What cannot run says so, and is counted as ignored.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod alone;
mod basics;
mod client;
mod guest;
mod here;
mod hostile;
mod limits;
mod processes;
mod streams;
mod walls;

use std::pin::Pin;
use std::process::ExitCode;

use client::Caller;
use libtest_mimic::{Arguments, Trial};

/// A test: its name, and itself.
struct Case {
    name: &'static str,
    body: fn(Caller) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The tests of some modules, as `module::function`.
macro_rules! cases {
    ($($module:ident => [$($body:ident),* $(,)?]),* $(,)?) => {
        &[$($(Case {
            name: concat!(stringify!($module), "::", stringify!($body)),
            body: |caller| Box::pin($module::$body(caller)),
        }),*),*]
    };
}

/// Those that need nothing but a kernel with namespaces.
const EVERYWHERE: &[Case] = cases! {
    basics => [
        the_agent_says_who_it_is,
        what_a_container_prints_and_its_status_arrive,
        a_container_reads_its_input_to_the_end,
        a_command_that_is_not_there_is_said_at_the_start,
        a_name_is_taken_once_and_free_again,
        a_container_that_is_removed_before_its_start_is_gone,
    ],
    processes => [
        a_process_runs_in_the_containers_own_world,
        ten_processes_at_once_each_say_their_own,
        a_child_in_the_background_does_not_hold_up_the_end,
        nothing_runs_in_a_container_that_has_ended,
        a_killed_container_has_137,
        a_signal_reaches_who_waits_for_it,
        what_is_no_signal_is_refused,
        who_has_ended_is_told_again,
        fifty_containers_leave_nothing,
        two_containers_do_not_see_each_other,
        a_process_that_runs_is_not_removed,
    ],
    streams => [
        twenty_megabytes_come_back_the_same,
        what_is_written_just_before_the_end_arrives,
        input_is_closed_by_a_request_too,
        a_line_that_names_no_stream_is_refused,
        a_stream_is_connected_once,
        a_terminal_has_a_name_and_a_size_that_changes,
        a_key_interrupts_who_has_the_terminal,
        a_terminal_has_no_second_output,
    ],
    walls => [
        the_container_is_alone,
        paths_are_hidden_and_protected,
        a_read_only_root_takes_nothing_and_its_mounts_do,
        the_user_its_groups_and_its_mask_are_as_asked,
        capabilities_are_those_that_were_asked_for,
        limits_of_a_process_are_set,
        a_filter_answers_for_calls_and_arguments,
        a_filter_that_allows_by_name_refuses_the_rest,
        a_file_that_was_put_is_bound_where_it_is_wanted,
        nothing_else_of_the_guest_is_bound,
        a_mount_over_the_root_or_of_another_kind_is_refused,
        a_sysctl_of_the_whole_guest_is_refused,
        a_network_of_its_own_has_nothing_but_itself,
        root_of_a_user_namespace_is_nobody_outside,
        what_a_container_writes_is_bounded,
    ],
    hostile => [
        a_description_that_is_none_is_refused,
        deep_and_long_descriptions_are_refused,
        an_unknown_field_is_refused_by_name,
        names_that_are_paths_are_refused,
        requests_for_what_is_not_there_are_answered,
        there_are_so_many_containers_and_no_more,
    ],
};

/// Those that need a guest's cgroups.
const LIMITED: &[Case] = cases! {
    limits => [
        too_much_memory_is_an_event_and_137,
        a_part_of_a_processor_is_no_more_than_that,
        a_container_has_so_many_processes,
        a_pause_stops_all_and_a_resume_lets_them_go_on,
        limits_of_a_container_that_runs_are_changed,
        figures_are_such_as_can_be,
        the_guest_is_as_its_host_describes_it,
        every_process_gets_a_signal_for_all,
        a_disk_of_the_guest_is_not_read,
        a_container_sees_its_own_cgroup_alone,
        a_hog_without_a_limit_does_not_take_the_agent_down,
        a_fork_bomb_does_not_take_the_agent_down,
        a_full_root_does_not_take_the_agent_down,
        the_agent_is_small,
    ],
};

/// What is enough to know that a stock kernel does as well.
const BRIEF: [&str; 6] = [
    "basics::what_a_container_prints_and_its_status_arrive",
    "processes::a_process_runs_in_the_containers_own_world",
    "streams::a_terminal_has_a_name_and_a_size_that_changes",
    "walls::a_filter_answers_for_calls_and_arguments",
    "limits::too_much_memory_is_an_event_and_137",
    "limits::a_disk_of_the_guest_is_not_read",
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let obstacle = here::obstacle();
    if let Some(reason) = &obstacle {
        eprintln!("containers: SKIPPED, all of here::: {reason}");
    }
    let no_guest = guest::obstacle();
    if let Some(reason) = &no_guest {
        eprintln!("containers: SKIPPED, all of guest::: {reason}");
    }
    let mut trials: Vec<Trial> = EVERYWHERE
        .iter()
        .map(|case| {
            let trial = Trial::test(format!("here::{}", case.name), || {
                here::run(case.body);
                Ok(())
            });
            trial.with_ignored_flag(obstacle.is_some())
        })
        .collect();
    let mut in_guest = |name: &str, kernel: &'static str, cases: Vec<&'static Case>| {
        let trial = Trial::test(format!("guest::{name}"), move || {
            guest::run(kernel, &cases);
            Ok(())
        });
        trials.push(trial.with_ignored_flag(no_guest.is_some()));
    };
    let every = || EVERYWHERE.iter().chain(LIMITED);
    // A guest for each kind: an emulated machine may stall or lose one that is up for minutes, and only that kind runs again.
    for kind in ["basics", "processes", "streams", "walls", "hostile"] {
        let cases = EVERYWHERE.iter().filter(|case| case.name.starts_with(kind));
        let name = format!("{kind}_with_the_trimmed_kernel");
        in_guest(&name, "vmlinux-trimmed", cases.collect());
    }
    in_guest(
        "limits_with_the_trimmed_kernel",
        "vmlinux-trimmed",
        LIMITED.iter().collect(),
    );
    let brief = every().filter(|case| BRIEF.contains(&case.name)).collect();
    in_guest("with_the_stock_kernel", "vmlinux", brief);
    let alone: [(&str, fn()); 3] = [
        (
            "what_it_prints_is_all_that_is_printed",
            alone::what_it_prints_is_all_that_is_printed,
        ),
        (
            "with_a_terminal_it_has_one_of_its_own",
            alone::with_a_terminal_it_has_one_of_its_own,
        ),
        (
            "what_cannot_be_run_is_said_and_has_a_status",
            alone::what_cannot_be_run_is_said_and_has_a_status,
        ),
    ];
    for (name, body) in alone {
        let trial = Trial::test(format!("guest::alone::{name}"), move || {
            body();
            Ok(())
        });
        trials.push(trial.with_ignored_flag(no_guest.is_some()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
