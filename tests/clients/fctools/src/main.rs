//! `fctools-client FIRECRACKER KERNEL INITRD`: a VM's life as a program of fctools's users would lead it.
//!
//! It starts the binary FIRECRACKER, describes a guest, waits for its words, pauses it, gives its disk another file and
//! presses Ctrl-Alt-Del: once by calls of the API, and once by a configuration file. It ends with 0 when all of it was
//! as Firecracker does it, and says on stderr what was not.

use std::error::Error;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fctools::process_spawner::DirectProcessSpawner;
use fctools::runtime::tokio::TokioRuntime;
use fctools::vm::api::VmApi;
use fctools::vm::configuration::{InitMethod, VmConfiguration, VmConfigurationData};
use fctools::vm::models::{BootSource, Drive, MachineConfiguration, UpdateDrive};
use fctools::vm::shutdown::{VmShutdownAction, VmShutdownMethod};
use fctools::vm::{Vm, VmState};
use fctools::vmm::arguments::{VmmApiSocket, VmmArguments, VmmLogLevel};
use fctools::vmm::executor::unrestricted::UnrestrictedVmmExecutor;
use fctools::vmm::installation::VmmInstallation;
use fctools::vmm::ownership::VmmOwnershipModel;
use fctools::vmm::resource::system::ResourceSystem;
use fctools::vmm::resource::{MovedResourceType, ResourceType};
use futures_util::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

type Anything<T> = Result<T, Box<dyn Error>>;
type Machine = Vm<UnrestrictedVmmExecutor, DirectProcessSpawner, TokioRuntime>;

/// The longest that anything may take, in an emulated machine on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST: u64 = 2 << 20;
const SECOND: u64 = 3 << 20;
/// `sh -c "echo guest is up; until [ $(blockdev --getsize64 /dev/vda) = SECOND ]; do :; done; echo disk is new; read x"`.
const ARGS: &str = "console=ttyS0 reboot=k panic=1 quiet ravelin.command=sh%00-c%00echo%20guest%20is%20up;until%20[%20\
    $(blockdev%20--getsize64%20/dev/vda)%20=%203145728%20];do%20:;done;echo%20disk%20is%20new;read%20x";

#[tokio::main]
async fn main() -> Anything<()> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [firecracker, kernel, initrd] = paths.as_slice() else {
        return Err("usage: fctools-client FIRECRACKER KERNEL INITRD".into());
    };
    let folder = firecracker
        .parent()
        .ok_or("a path of FIRECRACKER is needed")?;
    let json = folder.join("configuration.json");
    for method in [
        InitMethod::ViaApiCalls,
        InitMethod::ViaJsonConfiguration(json),
    ] {
        eprintln!("{method:?}");
        life(firecracker, kernel, initrd, folder, method).await?;
    }
    Ok(())
}

/// A VM from its description to its end.
async fn life(
    firecracker: &Path,
    kernel: &Path,
    initrd: &Path,
    folder: &Path,
    init_method: InitMethod,
) -> Anything<()> {
    let [first, second] = [("first", FIRST), ("second", SECOND)].map(|(name, length)| {
        let path = folder.join(name);
        let made = File::create(&path).and_then(|file| file.set_len(length));
        made.map(|()| path)
    });
    let mut resources = ResourceSystem::new(
        DirectProcessSpawner,
        TokioRuntime,
        VmmOwnershipModel::Shared,
    );
    let moved = ResourceType::Moved(MovedResourceType::Copied);
    let mut resource = |path: &Path| resources.create_resource(path, moved);
    let data = VmConfigurationData {
        boot_source: BootSource {
            kernel_image: resource(kernel)?,
            boot_args: Some(ARGS.to_owned()),
            initrd: Some(resource(initrd)?),
        },
        drives: vec![Drive {
            drive_id: "data".to_owned(),
            is_root_device: false,
            cache_type: None,
            partuuid: None,
            is_read_only: None,
            block: Some(resource(&first?)?),
            rate_limiter: None,
            io_engine: None,
            socket: None,
        }],
        machine_configuration: MachineConfiguration {
            vcpu_count: 1,
            mem_size_mib: 256,
            smt: None,
            track_dirty_pages: None,
            huge_pages: None,
        },
        cpu_template: None,
        network_interfaces: Vec::new(),
        balloon_device: None,
        vsock_device: None,
        logger_system: None,
        metrics_system: None,
        mmds_configuration: None,
        entropy_device: None,
    };
    let block = resource(&second?)?;
    let arguments = VmmArguments::new(VmmApiSocket::Enabled(folder.join("fctools.socket")))
        .log_level(VmmLogLevel::Warn);
    let executor = UnrestrictedVmmExecutor::new(arguments).id("fctools".to_owned().try_into()?);
    let configuration = VmConfiguration::New { init_method, data };
    let installation = VmmInstallation::new(firecracker, firecracker, firecracker);
    let mut vm = within(Vm::prepare(
        executor,
        resources,
        installation,
        configuration,
    ))
    .await??;
    vm.start(PATIENCE).await?;
    let mut pipes = vm.take_pipes()?;
    within(hear(&mut pipes.stdout, "guest is up")).await??;
    within(look_and_pause(&mut vm)).await??;
    let update = UpdateDrive {
        drive_id: "data".to_owned(),
        block: Some(block),
        rate_limiter: None,
    };
    within(vm.update_drive(update)).await??;
    within(hear(&mut pipes.stdout, "disk is new")).await??;
    press(&mut vm).await
}

async fn within<F: Future>(future: F) -> Anything<F::Output> {
    Ok(timeout(PATIENCE, future).await?)
}

/// Asks what there is, and pauses it for a moment.
async fn look_and_pause(vm: &mut Machine) -> Anything<()> {
    let info = vm.get_info().await?;
    same(
        "info",
        (info.id.as_str(), info.is_paused, info.app_name.as_str()),
        ("fctools", false, "Firecracker"),
    )?;
    let machine = vm.get_machine_configuration().await?;
    same(
        "machine",
        (machine.vcpu_count, machine.mem_size_mib),
        (1, 256),
    )?;
    vm.get_firecracker_version().await?;
    vm.pause().await?;
    same("state", vm.get_state(), VmState::Paused)?;
    same("pause", vm.get_info().await?.is_paused, true)?;
    vm.resume().await?;
    same("resumption", vm.get_info().await?.is_paused, false)?;
    Ok(())
}

/// Presses Ctrl-Alt-Del and waits for the end.
async fn press(vm: &mut Machine) -> Anything<()> {
    let action = VmShutdownAction {
        method: VmShutdownMethod::CtrlAltDel,
        timeout: Some(PATIENCE),
        graceful: true,
    };
    let outcome = vm.shutdown([action]).await?;
    same("graceful end", outcome.is_fully_graceful(), true)?;
    same("state", vm.get_state(), VmState::Exited)?;
    vm.cleanup().await?;
    Ok(())
}

/// Reads until it was said.
async fn hear(stream: &mut (impl AsyncRead + Unpin), words: &str) -> Anything<()> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&said);
        if text.contains(words) {
            return Ok(());
        }
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(format!("the guest never said `{words}`: {text}").into());
        }
        said.extend(&piece[..count]);
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Anything<()> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} where {expected:?} was expected").into()),
    }
}
