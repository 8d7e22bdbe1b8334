//! TLS to Redis: whether it is there, and with rustls which cryptography it uses.

use ::redis::{ConnectionAddr, ConnectionInfo};

use crate::{Fault, FaultKind};

const IS_THERE: bool = cfg!(any(feature = "redis-rustls", feature = "redis-native-tls"));

/// Makes TLS ready, if this address needs it.
pub(super) fn prepare(info: &ConnectionInfo) -> Result<(), Fault> {
    let needed = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    #[cfg(feature = "redis-rustls")]
    if needed {
        choose_cryptography();
    }
    check(needed, IS_THERE)
}

fn check(needed: bool, is_there: bool) -> Result<(), Fault> {
    if !needed || is_there {
        return Ok(());
    }
    let text = "a rediss:// URL needs the feature redis-rustls or redis-native-tls of cattleguard";
    Err(Fault::saying(FaultKind::Config, text))
}

/// The client asks for the process' default and panics where it is not clear which one that is: in a service that
/// has both ring and aws-lc. One that the service has installed stays.
#[cfg(feature = "redis-rustls")]
fn choose_cryptography() {
    use rustls::crypto::{CryptoProvider, ring};

    if CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster.
        let _ = ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use ::redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn a_url_that_needs_a_missing_feature_says_which() {
        let missing = check(true, false).expect_err("not there");
        assert_eq!(missing.kind(), FaultKind::Config);
        assert!(missing.to_string().contains("feature redis-rustls"), "{missing}");
        assert!(check(false, false).is_ok());
        for (url, allowed) in [("redis://localhost/", true), ("rediss://localhost/", IS_THERE)] {
            let info = url.into_connection_info().expect("a URL");
            assert_eq!(prepare(&info).is_ok(), allowed, "{url}");
        }
    }
}
