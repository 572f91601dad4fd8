//! WASI stubs that give guests no access to the system.
//!
//! Guests built with a standard library import these interfaces even if they never use
//! them. They get an empty environment, a closed stdin, clocks that count calls, random
//! numbers from a fixed seed, a stdout and stderr that are kept for messages, a file system
//! without folders, and sockets that cannot be created. Waiting for a clock traps, because
//! epochs cannot interrupt a sleeping host function.
//!
//! A component that imports another WASI package, such as http, is rejected at load by the
//! `component` module.

use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets, sync};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};

use super::captured_output::CapturedOutput;
use super::limits::{Meter, SandboxLimits};

/// The data of one store.
pub(super) struct StoreState {
    pub(super) meter: Meter,
    pub(super) output: CapturedOutput,
    table: ResourceTable,
    /// Without folders.
    filesystem: WasiFilesystemCtx,
    /// Without permission for TCP, UDP and the lookup of names.
    sockets: WasiSocketsCtx,
    ticks: u64,
    random: u64,
}

/// Maximum number of streams and pollables that a guest may hold at the same time.
const TABLE_ENTRIES_MAX: usize = 256;
/// Seed of the random numbers of every store, so that runs are reproducible.
const RANDOM_SEED: u64 = 0x6c6d_7374_7269_7821;

impl StoreState {
    pub(super) fn new(limits: SandboxLimits) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(TABLE_ENTRIES_MAX);
        Self {
            meter: Meter::new(limits),
            output: CapturedOutput::default(),
            table,
            filesystem: WasiFilesystemCtx::default(),
            sockets: WasiSocketsCtx::default(),
            ticks: 0,
            random: RANDOM_SEED,
        }
    }

    /// Returns the next number of SplitMix64 (Steele, Lea and Flood, 2014), which is the
    /// same on every platform. The numbers need not be unpredictable.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn limits(&self) -> &SandboxLimits {
        self.meter.limits()
    }

    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        let memory_bytes = self.limits().memory_bytes as u64;
        if len > memory_bytes {
            wasmtime::bail!(
                "requested {len} random bytes, and a pack has at most {memory_bytes} bytes of memory"
            );
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            bytes.extend_from_slice(&self.next_random().to_le_bytes());
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    /// Returns the next clock value: the number of calls so far.
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

/// Adds the WASI stubs to the linker.
pub(super) fn link(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    type Data = HasSelf<StoreState>;
    fn data(state: &mut StoreState) -> &mut StoreState {
        state
    }
    cli::environment::add_to_linker::<_, Data>(linker, data)?;
    cli::exit::add_to_linker::<_, Data>(linker, data)?;
    cli::stdin::add_to_linker::<_, Data>(linker, data)?;
    cli::stdout::add_to_linker::<_, Data>(linker, data)?;
    cli::stderr::add_to_linker::<_, Data>(linker, data)?;
    cli::terminal_input::add_to_linker::<_, Data>(linker, data)?;
    cli::terminal_output::add_to_linker::<_, Data>(linker, data)?;
    cli::terminal_stdin::add_to_linker::<_, Data>(linker, data)?;
    cli::terminal_stdout::add_to_linker::<_, Data>(linker, data)?;
    cli::terminal_stderr::add_to_linker::<_, Data>(linker, data)?;
    clocks::wall_clock::add_to_linker::<_, Data>(linker, data)?;
    clocks::monotonic_clock::add_to_linker::<_, Data>(linker, data)?;
    random::random::add_to_linker::<_, Data>(linker, data)?;
    random::insecure::add_to_linker::<_, Data>(linker, data)?;
    random::insecure_seed::add_to_linker::<_, Data>(linker, data)?;
    sync::io::error::add_to_linker::<_, WasiIo>(linker, |state| &mut state.table)?;
    sync::io::poll::add_to_linker::<_, WasiIo>(linker, |state| &mut state.table)?;
    sync::io::streams::add_to_linker::<_, WasiIo>(linker, |state| &mut state.table)?;
    link_denied(linker)
}

/// Adds the file system and the sockets of wasmtime, with nothing that can be opened.
fn link_denied(linker: &mut Linker<StoreState>) -> wasmtime::Result<()> {
    fn files(state: &mut StoreState) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut state.filesystem,
            table: &mut state.table,
        }
    }
    fn network(state: &mut StoreState) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView {
            ctx: &mut state.sockets,
            table: &mut state.table,
        }
    }
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, files)?;
    sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, files)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &options, network)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, network)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, network)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, network)?;
    sync::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, network)?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(linker, network)?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(linker, network)?;
    Ok(())
}

/// Gives the `wasi:io` interfaces access to the resource table.
struct WasiIo;

impl HasData for WasiIo {
    type Data<'a> = &'a mut ResourceTable;
}

/// The error of a call of `wasi:cli/exit` with this status.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("called exit({0}), which packs must not do")]
pub(super) struct GuestExit(pub(super) u8);

impl cli::environment::Host for StoreState {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::exit::Host for StoreState {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(GuestExit(u8::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(GuestExit(status).into())
    }
}

impl cli::stdin::Host for StoreState {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(wasmtime_wasi::p2::pipe::ClosedInputStream);
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for StoreState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.output.clone());
        Ok(self.table.push(stream)?)
    }
}

impl cli::stderr::Host for StoreState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.output.clone());
        Ok(self.table.push(stream)?)
    }
}

impl cli::terminal_input::Host for StoreState {}

impl cli::terminal_input::HostTerminalInput for StoreState {
    fn drop(
        &mut self,
        input: Resource<cli::terminal_input::TerminalInput>,
    ) -> wasmtime::Result<()> {
        self.table.delete(input)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for StoreState {}

impl cli::terminal_output::HostTerminalOutput for StoreState {
    fn drop(
        &mut self,
        output: Resource<cli::terminal_output::TerminalOutput>,
    ) -> wasmtime::Result<()> {
        self.table.delete(output)?;
        Ok(())
    }
}

impl cli::terminal_stdin::Host for StoreState {
    fn get_terminal_stdin(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_input::TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for StoreState {
    fn get_terminal_stdout(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for StoreState {
    fn get_terminal_stderr(
        &mut self,
    ) -> wasmtime::Result<Option<Resource<cli::terminal_output::TerminalOutput>>> {
        Ok(None)
    }
}

impl clocks::wall_clock::Host for StoreState {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime {
            seconds: self.tick(),
            nanoseconds: 0,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime {
            seconds: 1,
            nanoseconds: 0,
        })
    }
}

/// The error of subscribing to a clock.
const CLOCK_WAIT_DENIED: &str = "waited for a clock, which packs must not do";

impl clocks::monotonic_clock::Host for StoreState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.tick())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, _when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime::bail!(CLOCK_WAIT_DENIED)
    }

    fn subscribe_duration(&mut self, _for: u64) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime::bail!(CLOCK_WAIT_DENIED)
    }
}

impl random::random::Host for StoreState {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.next_random())
    }
}

impl random::insecure::Host for StoreState {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.next_random())
    }
}

impl random::insecure_seed::Host for StoreState {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((RANDOM_SEED, !RANDOM_SEED))
    }
}
