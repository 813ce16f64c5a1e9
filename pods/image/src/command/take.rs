//! Images taken from where they are.

use std::io::{self, Read, Write};
use std::path::Path;

use clap::{Args, ValueEnum};
use image::cache::{Cache, Disk, Record};
use image::config::Config;
use image::manifest::Image;
use image::reference::Location;
use image::registry::{Credentials, Registry};
use image::runtime::{self, Wishes};
use image::source::{self, Source};
use serde_json::json;

use super::bar::Bar;
use super::kit::Kit;
use super::{Failure, walls};

/// When a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// Always, also if the image is here
    Always,
    /// If the image is not here
    Missing,
    /// Never
    Never,
}

/// Flags of `pull`.
#[derive(Args)]
pub(super) struct Pull {
    /// A reference, as in registry.example/app:1, or the path of an archive or a layout
    #[arg(value_name = "IMAGE")]
    image: String,
    /// When a registry is asked
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Always)]
    pull: When,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Flags of `resolve`.
#[derive(Args)]
pub(super) struct Resolve {
    /// A reference, as in registry.example/app:1, or the path of an archive or a layout
    #[arg(long)]
    image: String,
    /// When a registry is asked
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Missing)]
    pull: When,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// A variable of the container, NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Whom it runs as, USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// The directory that it starts in
    #[arg(short, long)]
    workdir: Option<String>,
    /// A program in place of the image's
    #[arg(long)]
    entrypoint: Option<String>,
    /// What the container is called
    #[arg(long)]
    hostname: Option<String>,
    /// Its console is a terminal
    #[arg(long)]
    tty: bool,
    /// The type of that terminal
    #[arg(long)]
    term: Option<String>,
    /// Print, and stay until stdin ends: the disk is not removed meanwhile
    #[arg(long)]
    hold: bool,
    /// Arguments in place of the image's
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// An image that is here.
struct Taken {
    record: Record,
    disk: Disk,
}

/// Takes an image.
pub(super) fn pull(cache: &Cache, pull: &Pull, json: bool) -> Result<(), Failure> {
    let taken = take(cache, &pull.image, pull.pull, pull.quiet)?;
    let record = &taken.record;
    let text = match json {
        true => json!({
            "image": record.name,
            "digest": record.digest,
            "disk": taken.disk.path,
            "was_there": taken.disk.was_there,
        })
        .to_string(),
        false => record.digest.clone(),
    };
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Takes an image and describes its container.
pub(super) fn resolve(cache: &Cache, config: &Config, resolve: &Resolve) -> Result<(), Failure> {
    // Before the walls: what is outside of the cache cannot be read then.
    let kit = Kit::find(config);
    let taken = take(cache, &resolve.image, resolve.pull, resolve.quiet)?;
    let wishes = Wishes {
        entrypoint: resolve.entrypoint.clone(),
        arguments: resolve.arguments.clone(),
        environment: resolve.env.clone(),
        user: resolve.user.clone(),
        directory: resolve.workdir.clone(),
        hostname: resolve.hostname.clone(),
        terminal: resolve.tty,
        term: resolve.term.clone(),
    };
    let record = &taken.record;
    let container = runtime::container(&record.config, &taken.disk.accounts(), &wishes)?;
    let answer = json!({
        "image": record.name,
        "digest": record.digest,
        "disk": taken.disk.path,
        "was_there": taken.disk.was_there,
        "container": container,
        "kernel": kit.kernel,
        "agent": kit.agent,
    });
    writeln!(io::stdout(), "{answer}")?;
    if resolve.hold {
        io::stdout().flush()?;
        io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Says what a reference means now.
pub(super) fn digest(cache: &Cache, name: &str) -> Result<(), Failure> {
    let location = Location::parse(name)?;
    let source = open(cache, &location)?;
    let image = Image::find(&*source, chosen(&location), &cache.limits)?;
    Ok(writeln!(io::stdout(), "{}", image.digest)?)
}

fn take(cache: &Cache, name: &str, when: When, quiet: bool) -> Result<Taken, Failure> {
    let location = Location::parse(name)?;
    let name = location.name();
    let is_registry = matches!(location, Location::Registry(_));
    if is_registry && when != When::Always {
        let kept = cache.record(&name).and_then(|record| {
            let disk = cache.kept(&record.chain).transpose()?;
            Some(disk.map(|disk| Taken { record, disk }))
        });
        if let Some(taken) = kept {
            return Ok(taken?);
        }
        if when == When::Never {
            return Err(format!("the image {name} is not here, and was not to be pulled").into());
        }
    }
    let source = open(cache, &location)?;
    let image = Image::find(&*source, chosen(&location), &cache.limits)?;
    let mut bar = Bar::new(quiet, &name);
    let disk = cache.image(&image, &*source, &mut |progress| bar.show(progress))?;
    drop(bar);
    let record = Record::new(&name, &image);
    cache.remember(&record)?;
    Ok(Taken { record, disk })
}

fn chosen(location: &Location) -> Option<&str> {
    match location {
        Location::Path(_, name) => name.as_deref(),
        Location::Registry(_) => None,
    }
}

/// Opens where an image is, and gives up what is not needed to read it.
fn open(cache: &Cache, location: &Location) -> Result<Box<dyn Source>, Failure> {
    match location {
        Location::Path(path, _) => {
            walls::raise(cache.room(), Some(path))?;
            Ok(source::open(path, cache.room(), cache.limits.bytes)?)
        }
        Location::Registry(reference) => {
            // Before the walls: the file is its user's.
            let credentials = Credentials::of_user(&reference.host)?;
            walls::raise(cache.room(), None::<&Path>)?;
            Ok(Box::new(Registry::open(reference, credentials)))
        }
    }
}
