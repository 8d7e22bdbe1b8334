//! A Redis over TLS, with certificates of its own.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::process::{folder, free_port};
use super::redis::Redis;

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
        let certificates = Certificates::make().map_err(|e| format!("no certificate: {e}"))?;
        let (cert, key) = certificates.signed()?;
        let file = |name: &str, content: &str| -> Result<String, String> {
            let file: PathBuf = dir.path().join(name);
            fs::write(&file, content).map_err(|e| format!("cannot write {file:?}: {e}"))?;
            Ok(file.display().to_string())
        };
        let ca = certificates.ca.clone();
        let (cert, key, authority) =
            (file("cert.pem", &cert)?, file("key.pem", &key)?, file("ca.pem", &ca)?);
        let port_text = port.to_string();
        let redis = Redis::start_with(&[
            "--tls-port",
            &port_text,
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &authority,
        ])?;
        let (cert, key) = certificates.signed()?;
        let client = (cert.into_bytes(), key.into_bytes());
        Ok(Self { redis, port, ca: ca.into_bytes(), client, _dir: dir })
    }

    pub fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}/", self.port)
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
