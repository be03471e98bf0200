//! `quorate bench`: runs a workload and reports what it measured.
//!
//! Contract: a latency ends with the answer. It begins when the request was sent (closed loop) or was due (open loop).
//! Nothing is left out silently: failures are counted by kind, and requests that were late, never sent or in flight at the
//! end are counted too. Ctrl-C ends a run early; the report then covers the time until that.

mod cpu;
mod etcd;
mod keys;
mod mix;
mod noop;
mod options;
mod progress;
mod report;
mod route;
mod schedule;
mod sender;
mod tally;
mod values;
mod watchers;
mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::locate::table_id;
use super::output::{self, print};
use super::security::Security;
use super::serve::shutdown_on_signal;
use super::{CliError, Exit, Global};
use crate::api::cluster_client::ClusterClient;
use crate::client::{ClientError, endpoint};
use crate::tls::Dialer;
use crate::types::TableId;
use etcd::Etcd;
use mix::Kind;
use noop::NoopServer;
pub(super) use options::Bench;
use options::Target;
use progress::Progress;
use report::{Report, Settings};
use route::Route;
use values::Values;
use watchers::Watchers;
use workload::{Observer, Workload};

impl Bench {
    pub(super) fn asks_a_node(&self) -> bool {
        !self.serve_noop && self.target == Target::Cluster
    }

    pub(super) async fn run(self, global: &Global) -> Result<Exit, CliError> {
        if self.serve_noop {
            return noop::serve(self.value_bytes).await;
        }
        self.check()?;
        let shutdown = shutdown_on_signal()?;
        let (mut server, dialer) = match self.target {
            Target::Cluster => {
                global.addresses()?;
                (None, global.dialer()?)
            }
            Target::Etcd => {
                let security = &global.security;
                if security.ca.is_some() || security.cert.is_some() || security.private_key.is_some() {
                    let problem =
                        "--target etcd asks without TLS: leave out --ca, --cert and --key, and their variables";
                    return Err(CliError::bad_input(problem));
                }
                Global { security: Security::default(), ..global.clone() }.addresses()?;
                (None, Dialer::default())
            }
            Target::Noop => (Some(NoopServer::start(self.value_bytes)?), Dialer::default()),
        };
        let settings = self.settings(global, server.as_ref().map(|server| server.address.as_str()));
        let workload = Arc::new(self.workload(global, &settings, &dialer).await?);
        let progress = Progress::new(global.json);

        let mut preloaded = None;
        if self.load && server.is_none() {
            let began = Instant::now();
            let written = workload.preload(&progress, &shutdown).await;
            let written = written.map_err(|problem| CliError::not_done(format!("--load: {problem}")))?;
            preloaded = Some((written, began.elapsed()));
        }
        // They end with the run.
        let _watching = if self.mix.weight(Kind::Watch) == 0 {
            None
        } else {
            let watching = workload.watchers.start(&workload.keys, &workload.table, &workload.clients, &shutdown).await;
            Some(watching.map_err(|problem| CliError::not_done(format!("--watchers: {problem}")))?)
        };
        let mut meter = CpuMeter::new(server.as_mut());
        let measured = workload.run(&mut meter, &progress, &shutdown).await;
        progress.end();
        let (generator_cpu, target_cpu) = (meter.generator, meter.target);
        let interrupted = shutdown.is_cancelled();
        let broken_watches = workload.watchers.broken();
        let report = Report { settings, preloaded, measured, broken_watches, interrupted, generator_cpu, target_cpu };

        let text = if global.json { format!("{}\n", report.as_json()) } else { report.as_text() };
        if report.operations() > 0 {
            output::report(&text, &format!("done, with {} operations", report.operations()));
            return Ok(Exit::Done);
        }
        print(text.as_bytes())?;
        let why = report.commonest_failure().unwrap_or_else(|| {
            let unfinished = report.measured.unfinished;
            format!("{unfinished} requests were in flight and none was answered; a longer --duration may see some")
        });
        if report.is_refused() {
            return Err(CliError::bad_input(format!("refused: {why}")));
        }
        Err(CliError::not_done(format!("no operation was answered: {why}")))
    }

    async fn workload(&self, global: &Global, settings: &Settings, dialer: &Dialer) -> Result<Workload, CliError> {
        let endpoints = settings
            .addresses
            .iter()
            .map(|address| endpoint(address, dialer))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| CliError::from(ClientError::from(problem)))?;
        let channels = sender::connect(&endpoints, dialer, settings.connections, settings.in_flight).await;
        let channels = channels.map_err(|problem| {
            let hint = match self.target {
                Target::Etcd => "is etcd running there? --address names its members",
                _ => "is a node running there? `quorate dev` starts some; --address or QUORATE_ADDRESS names others",
            };
            CliError::not_done(format!("no node can be reached: {problem}\n{hint}"))
        })?;
        let clients: Vec<_> =
            channels.iter().map(|channel| crate::api::sized!(ClusterClient::new(channel.clone()))).collect();
        let etcd = if self.target == Target::Etcd { channels.into_iter().map(Etcd::new).collect() } else { Vec::new() };
        let route = if self.route {
            let table = if self.table.in_requests().is_empty() {
                TableId::DEFAULT
            } else {
                table_id(global, &self.table.table).await?
            };
            let route = Route::ask(&clients, &settings.addresses, table, settings.timeout).await;
            Some(
                route
                    .map_err(|problem| CliError::not_done(format!("--route: nobody says where keys are: {problem}")))?,
            )
        } else {
            None
        };
        let watched = if self.mix.weight(Kind::Watch) > 0 { settings.in_flight } else { 0 };
        Ok(Workload {
            clients,
            etcd,
            route,
            keys: self.keys_of(),
            table: self.table.in_requests(),
            values: Values::new(self.value_bytes, self.seed),
            mix: self.mix,
            list_keys: settings.list_keys,
            list_values: settings.list_values,
            watchers: Arc::new(Watchers::new(settings.watchers, watched)),
            pace: settings.pace,
            in_flight: settings.in_flight,
            warm_up: self.warm_up,
            duration: self.duration,
            timeout: settings.timeout,
            pause_after_failure: self.pause_after_failure,
            seed: self.seed,
        })
    }
}

/// The CPU time that the generator and the no-op server use in the measured time.
struct CpuMeter<'a> {
    server: Option<&'a mut NoopServer>,
    generator: Duration,
    target: Option<Duration>,
}

impl<'a> CpuMeter<'a> {
    fn new(server: Option<&'a mut NoopServer>) -> Self {
        Self { server, generator: Duration::ZERO, target: None }
    }
}

impl Observer for CpuMeter<'_> {
    fn begins(&mut self) {
        self.generator = cpu::used();
        self.target = self.server.as_mut().and_then(|server| server.cpu_used());
    }

    fn ends(&mut self) {
        self.generator = cpu::used().saturating_sub(self.generator);
        let now = self.server.as_mut().and_then(|server| server.cpu_used());
        self.target = now.and_then(|now| Some(now.saturating_sub(self.target?)));
    }
}
