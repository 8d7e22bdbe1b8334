//! Redis over TLS, alone, as a cluster and with a Sentinel, with certificates of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::process::{Process, READY_WITHIN, folder, free_port, poll};
use super::redis::{Redis, ask_redis};

/// One server that asks its clients for a certificate. Its plain port stays open.
pub struct RedisTls {
    pub redis: Redis, // dropped before its folder
    pub port: u16,
    /// The authority that signed all of them, in PEM.
    pub ca: Vec<u8>,
    /// A client's certificate and key, in PEM.
    pub client: (Vec<u8>, Vec<u8>),
    _dir: TempDir,
}

impl RedisTls {
    pub fn start() -> Result<Self, String> {
        let (dir, port) = (folder()?, free_port()?);
        let files = Files::make(dir.path())?;
        let redis = files.start(port, &[])?;
        let (ca, client) = (files.ca.clone(), files.client.clone());
        Ok(Self { redis, port, ca, client, _dir: dir })
    }

    pub fn url(&self) -> String {
        url(self.port)
    }
}

fn url(port: u16) -> String {
    format!("rediss://127.0.0.1:{port}/")
}

/// Three nodes that talk over TLS, to each other, too.
pub struct RedisClusterTls {
    nodes: Vec<(Redis, u16)>, // dropped before their files
    pub ca: Vec<u8>,
    pub client: (Vec<u8>, Vec<u8>),
    _dir: TempDir,
}

impl RedisClusterTls {
    pub fn start() -> Result<Self, String> {
        let dir = folder()?;
        let files = Files::make(dir.path())?;
        let options = "--cluster-enabled yes --cluster-config-file nodes.conf --tls-cluster yes";
        let options: Vec<&str> = options.split(' ').collect();
        let node = |_| {
            let port = free_port()?;
            Ok((files.start(port, &options)?, port))
        };
        let nodes = (0..3).map(node).collect::<Result<Vec<_>, String>>()?;
        let mut create = Command::new("redis-cli");
        create.args(["--tls", "--cert", &files.cert, "--key", &files.key]);
        create.args(["--cacert", &files.authority, "--cluster", "create", "--cluster-yes"]);
        create.args(nodes.iter().map(|(_, port)| format!("127.0.0.1:{port}")));
        Process::run(create, &dir.path().join("create.log"))?;
        let joined = |(node, _): &(Redis, u16)| {
            let reply = ask_redis(node.port(), "CLUSTER INFO");
            reply.contains("cluster_state:ok") && reply.contains("cluster_known_nodes:3")
        };
        poll(READY_WITHIN, || nodes.iter().all(joined).then_some(()))
            .ok_or("the Redis cluster was not ready in time; retry on a less busy machine")?;
        Ok(Self { nodes, ca: files.ca, client: files.client, _dir: dir })
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|(_, port)| url(*port)).collect()
    }
}

/// A primary without replicas, and one Sentinel, over TLS.
pub struct RedisSentinelTls {
    pub primary: Redis,
    sentinel: Redis,
    port: u16,
    pub ca: Vec<u8>,
    pub client: (Vec<u8>, Vec<u8>),
    _dir: TempDir,
}

impl RedisSentinelTls {
    pub const MASTER: &str = "m1";

    pub fn start() -> Result<Self, String> {
        let (dir, port, primary_port) = (folder()?, free_port()?, free_port()?);
        let files = Files::make(dir.path())?;
        let primary = files.start(primary_port, &["--tls-replication", "yes"])?;
        let config = format!("sentinel monitor {} 127.0.0.1 {primary_port} 1\n", Self::MASTER);
        let mut args = files.args(port);
        args.extend(["--sentinel", "--tls-replication", "yes"].map(String::from));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let sentinel = Redis::start_from(config, &args)?;
        let sees =
            || ask_redis(sentinel.port(), "INFO sentinel").contains("status=ok").then_some(());
        poll(READY_WITHIN, sees).ok_or("the Sentinel was not ready in time")?;
        Ok(Self { primary, sentinel, port, ca: files.ca, client: files.client, _dir: dir })
    }

    pub fn sentinel_url(&self) -> String {
        url(self.port)
    }
}

/// What servers and their clients show each other.
struct Files {
    cert: String,
    key: String,
    authority: String,
    ca: Vec<u8>,
    client: (Vec<u8>, Vec<u8>),
}

impl Files {
    fn make(dir: &Path) -> Result<Self, String> {
        let certificates = Certificates::make().map_err(|e| format!("no certificate: {e}"))?;
        let file = |name: &str, content: &str| -> Result<String, String> {
            let file = dir.join(name);
            fs::write(&file, content).map_err(|e| format!("cannot write {file:?}: {e}"))?;
            Ok(file.display().to_string())
        };
        let (cert, key) = certificates.signed()?;
        let (client_cert, client_key) = certificates.signed()?;
        Ok(Self {
            cert: file("cert.pem", &cert)?,
            key: file("key.pem", &key)?,
            authority: file("ca.pem", &certificates.ca)?,
            ca: certificates.ca.into_bytes(),
            client: (client_cert.into_bytes(), client_key.into_bytes()),
        })
    }

    fn args(&self, port: u16) -> Vec<String> {
        let port = port.to_string();
        let args = [
            "--tls-port",
            &port,
            "--tls-cert-file",
            &self.cert,
            "--tls-key-file",
            &self.key,
            "--tls-ca-cert-file",
            &self.authority,
        ];
        args.map(String::from).to_vec()
    }

    /// A server with a TLS port beside its plain one.
    fn start(&self, port: u16, more: &[&str]) -> Result<Redis, String> {
        let args = self.args(port);
        let args = args.iter().map(String::as_str).chain(more.iter().copied());
        Redis::start_with(&args.collect::<Vec<_>>())
    }
}

/// An authority.
pub struct Certificates {
    pub ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn make() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key)?.pem();
        Ok(Self { ca, issuer: Issuer::new(params, key) })
    }

    /// A certificate for this machine and its key.
    fn signed(&self) -> Result<(String, String), String> {
        let sign = || {
            let key = KeyPair::generate()?;
            let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
            let mut params = CertificateParams::new(names)?;
            // OpenSSL takes a certificate with its issuer's name for one that signed itself.
            params.distinguished_name.push(DnType::CommonName, "this machine");
            let cert = params.signed_by(&key, &self.issuer)?;
            Ok((cert.pem(), key.serialize_pem()))
        };
        sign().map_err(|e: rcgen::Error| format!("no certificate: {e}"))
    }
}
