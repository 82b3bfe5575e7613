//! What engines answer, as far as it is read. Each field may be absent: engines differ in what they leave out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

/// A container as the list has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    /// 64 hexadecimal digits.
    pub id: String,
    /// With a `/` in front; a link of another container has two.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// The image, as it was named.
    pub image: String,
    /// created, running, paused, restarting, removing, exited, dead, and what an engine has beside.
    pub state: String,
    /// The same for people: `Up 3 minutes (healthy)`.
    pub status: String,
    /// Its labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Its ports.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<Port>,
    /// How it is connected.
    #[serde(rename = "HostConfig", deserialize_with = "or_default")]
    pub host: ListedHost,
    /// Its networks.
    #[serde(rename = "NetworkSettings", deserialize_with = "or_default")]
    pub networks: ListedNetworks,
}

impl Listed {
    /// Its own name, without the `/`; links that others gave it are left out.
    pub fn name(&self) -> &str {
        let names = self.names.iter().map(|name| name.trim_start_matches('/'));
        let mut own = names.filter(|name| !name.contains('/'));
        own.next().unwrap_or_default()
    }
}

/// What the list says of a container's host settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListedHost {
    /// bridge, host, none, the name of a network, or `container:ID`.
    pub network_mode: String,
}

/// The networks of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListedNetworks {
    /// By name.
    #[serde(deserialize_with = "networks")]
    pub networks: BTreeMap<String, Network>,
}

/// One network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its address there; empty while it does not run.
    #[serde(rename = "IPAddress")]
    pub address: String,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// The address of the host that it is published at; absent or empty: it is not.
    #[serde(rename = "IP", deserialize_with = "or_default")]
    pub address: String,
    /// In the container.
    pub private_port: u16,
    /// Of the host.
    pub public_port: Option<u16>,
    /// tcp, udp or sctp.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// What names a container for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its image.
    pub image: String,
}

/// A container in detail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Details {
    /// 64 hexadecimal digits.
    pub id: String,
    /// With a `/` in front.
    pub name: String,
    /// How it is.
    pub state: State,
    /// How often the engine itself has restarted it; an order of ours sets it back.
    #[serde(deserialize_with = "count")]
    pub restart_count: u64,
    /// How it was made.
    #[serde(deserialize_with = "or_default")]
    pub config: Config,
    /// How it stands on the host.
    #[serde(deserialize_with = "or_default")]
    pub host_config: HostConfig,
    /// Its networks and published ports.
    #[serde(deserialize_with = "or_default")]
    pub network_settings: NetworkSettings,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// created, running, paused, restarting, removing, exited, dead, and what an engine has beside.
    pub status: String,
    /// Also where it is paused or restarting.
    pub running: bool,
    /// Somebody paused it.
    pub paused: bool,
    /// The engine is restarting it.
    pub restarting: bool,
    /// Memory ran out. A hint: engines differ in when they set it and when they forget it.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// The PID of its main process as the engine sees it; 0: none.
    pub pid: i32,
    /// Of the last run of its main process; 0 while it runs.
    pub exit_code: i64,
    /// What the engine says went wrong.
    pub error: String,
    /// When it was started last; absent: never.
    #[serde(deserialize_with = "time")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended last; absent: never.
    #[serde(deserialize_with = "time")]
    pub finished_at: Option<DateTime<Utc>>,
    /// What its own check found; absent: it has none.
    #[serde(deserialize_with = "health")]
    pub health: Option<Health>,
}

/// What a container's own check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// starting, healthy, unhealthy.
    pub status: String,
    /// How often in a row it has failed.
    pub failing_streak: i64,
    /// The last results, the newest last.
    #[serde(deserialize_with = "or_default")]
    pub log: Vec<HealthResult>,
}

/// One result of a container's own check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// 0: it passed.
    pub exit_code: i64,
    /// What it printed.
    pub output: String,
}

/// How a container was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The image, as it was named.
    pub image: String,
    /// Its labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// It has a terminal.
    pub tty: bool,
    /// How long a stop waits before it kills, in seconds; absent: 10. For ever, which engines write as a negative number,
    /// is as absent: nobody here waits so long.
    #[serde(deserialize_with = "seconds")]
    pub stop_timeout: Option<u64>,
    /// The ports that its image names, `8080/tcp`.
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
}

/// How a container stands on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// bridge, host, none, the name of a network, or `container:ID`.
    pub network_mode: String,
    /// Whether the engine restarts it by itself.
    pub restart_policy: RestartPolicy,
    /// Where its output goes.
    pub log_config: LogConfig,
    /// It is removed when it ends.
    pub auto_remove: bool,
}

/// Whether the engine restarts a container by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// no or empty, always, unless-stopped, on-failure.
    pub name: String,
}

/// Where the output of a container goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// json-file, journald, none and so on.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// The networks and published ports of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// By name.
    #[serde(deserialize_with = "networks")]
    pub networks: BTreeMap<String, Network>,
    /// By the port in the container, `8080/tcp`: where it is published.
    #[serde(deserialize_with = "or_default")]
    pub ports: BTreeMap<String, Option<Vec<Endpoint>>>,
}

/// Where a port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// An address of the host; `0.0.0.0`: any.
    #[serde(rename = "HostIp")]
    pub address: String,
    /// A port of it.
    pub host_port: String,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Processor time.
    #[serde(deserialize_with = "or_default")]
    pub cpu_stats: CpuStats,
    /// Memory.
    #[serde(deserialize_with = "or_default")]
    pub memory_stats: MemoryStats,
    /// Threads.
    #[serde(deserialize_with = "or_default")]
    pub pids_stats: PidsStats,
}

impl Stats {
    /// The memory in use, in bytes, without the cache that can be dropped, as the engine's own command counts it: on
    /// cgroup v1 without `total_inactive_file`, on v2 without `inactive_file`.
    pub fn memory(&self) -> Option<u64> {
        let usage = self.memory_stats.usage?;
        let stats = &self.memory_stats.stats;
        let cache = (stats.get("total_inactive_file")).or_else(|| stats.get("inactive_file"));
        let cache = cache.copied().filter(|cache| *cache < usage);
        Some(usage - cache.unwrap_or_default())
    }
}

/// Processor time of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// In all.
    pub cpu_usage: CpuUsage,
}

/// Processor time of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// In nanoseconds since it was started.
    pub total_usage: Option<u64>,
}

/// Threads of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// So many it has now.
    pub current: Option<u64>,
}

/// Memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// In bytes, cache included.
    pub usage: Option<u64>,
    /// In bytes; that of the machine where there is no limit.
    pub limit: Option<u64>,
    /// What the kernel counts beside.
    #[serde(deserialize_with = "or_default")]
    pub stats: BTreeMap<String, u64>,
}

/// Null is as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A network that nothing is known of is null itself.
fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Network>, D::Error> {
    let networks: BTreeMap<String, Option<Network>> = or_default(from)?;
    let networks = networks.into_iter();
    Ok(networks
        .map(|(name, network)| (name, network.unwrap_or_default()))
        .collect())
}

/// Engines count with a sign: what is below zero is none.
fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(seconds(from)?.unwrap_or_default())
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(from)?;
    Ok(number.and_then(|number| number.as_u64()))
}

/// The year 1 stands for never.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let time = text.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    Ok(time
        .map(|time| time.to_utc())
        .filter(|time| time.timestamp() > 0))
}

/// Podman has an empty status where there is no check.
fn health<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Health>, D::Error> {
    let health = Option::<Health>::deserialize(from)?;
    Ok(health.filter(|health| !matches!(&*health.status, "" | "none")))
}
