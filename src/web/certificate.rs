//! The page's certificate: made anew at each start, signed by itself, known by its fingerprint.
//!
//! The key never leaves memory. Nobody can vouch for a name on a network at home, so people compare the fingerprint that
//! stands beside the code.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io;
use std::sync::Arc;

/// A certificate and what people know it by.
pub(super) struct Certificate {
    /// For the server.
    pub(super) config: Arc<ServerConfig>,
    /// SHA-256 of it, as browsers show it.
    pub(super) fingerprint: String,
}

/// Makes one for these names.
pub(super) fn make(names: Vec<String>) -> io::Result<Certificate> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Lifeboat");
    params.distinguished_name = subject;
    // A board without a battery does not know what day it is: the browser's day is to lie between these.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let sum = digest(&SHA256, certificate.der());
    let fingerprint: Vec<String> = sum.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(io::Error::other)?;
    Ok(Certificate { config: Arc::new(config), fingerprint: fingerprint.join(":") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_certificate_of_its_own() {
        let names = vec!["freedombox-recovery.local".to_owned()];
        let (one, two) = (make(names.clone()).unwrap(), make(names).unwrap());
        assert_eq!(one.fingerprint.len(), 32 * 3 - 1);
        assert_ne!(one.fingerprint, two.fingerprint);
    }
}
