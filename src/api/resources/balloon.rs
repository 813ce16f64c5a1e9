//! The memory balloon.

use serde::Deserialize;
use vmm::command::{BalloonUpdate, Command, Setting, Show};
use vmm::spec::Balloon;

use crate::api::fault::Fault;
use crate::api::request::{Ask, Parsed};

/// The body of `PATCH /balloon`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "BalloonAmount"))]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Amount {
    /// How much memory the guest should give back, in MiB.
    amount_mib: u32,
}

/// The body of `PATCH /balloon/statistics`.
#[derive(Deserialize)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "BalloonInterval")
)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Interval {
    /// How often the guest reports, in seconds.
    stats_polling_interval_s: u16,
}

/// The body of `PATCH /balloon/hinting/start`.
#[derive(Deserialize)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "BalloonHinting")
)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Hinting {
    /// Whether the end is acknowledged by itself.
    #[serde(default = "yes")]
    acknowledge_on_stop: bool,
}

fn yes() -> bool {
    true
}

/// `GET /balloon`.
pub(in crate::api) fn get(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::Balloon).into())
}

/// `PUT /balloon`.
pub(in crate::api) fn put(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let balloon: Balloon = ask.json()?;
    Ok(Setting::Balloon(balloon).into())
}

/// `PATCH /balloon`.
pub(in crate::api) fn patch(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let Amount { amount_mib } = ask.json()?;
    Ok(Command::UpdateBalloon(BalloonUpdate::Amount(amount_mib)).into())
}

/// `GET /balloon/statistics`.
pub(in crate::api) fn statistics(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::BalloonStatistics).into())
}

/// `PATCH /balloon/statistics`.
pub(in crate::api) fn patch_statistics(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let body: Interval = ask.json()?;
    let interval = BalloonUpdate::StatisticsInterval(body.stats_polling_interval_s);
    Ok(Command::UpdateBalloon(interval).into())
}

/// `PATCH /balloon/hinting/start`.
pub(in crate::api) fn start_hinting(ask: &mut Ask<'_>) -> Result<Parsed, Fault> {
    let acknowledge = match ask.body {
        [] => yes(),
        _ => ask.json::<Hinting>()?.acknowledge_on_stop,
    };
    Ok(Command::UpdateBalloon(BalloonUpdate::StartHinting(acknowledge)).into())
}

/// `PATCH /balloon/hinting/stop`.
pub(in crate::api) fn stop_hinting(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::UpdateBalloon(BalloonUpdate::StopHinting).into())
}

/// `GET /balloon/hinting/status`.
pub(in crate::api) fn hinting(_: &mut Ask<'_>) -> Result<Parsed, Fault> {
    Ok(Command::Show(Show::BalloonHinting).into())
}
