//! How values become bytes in a shared store.

use std::error::Error;

use bytes::Bytes;

/// Turns values into bytes and back.
///
/// A value that cannot be decoded (another release wrote it, say) is treated as missing, and loaded
/// and written again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not encode `{V}`",
    label = "not a `Codec<{V}>`",
    note = "`codec::Json` and `codec::Postcard`, of the features `json` and `postcard`, encode what serde serializes and deserializes, and `codec::Raw` encodes bytes",
    note = "for a format of your own, implement `cattleguard::codec::Codec`"
)]
pub trait Codec<V>: Send + Sync + 'static {
    /// Appends the value's bytes to `bytes`.
    ///
    /// # Errors
    ///
    /// Whatever the format reports. The value then answers its callers, but is not stored.
    fn encode(&self, value: &V, bytes: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// The value that these bytes spell.
    ///
    /// # Errors
    ///
    /// Whatever the format reports.
    fn decode(&self, bytes: Bytes) -> Result<V, Box<dyn Error + Send + Sync>>;
}

/// Bytes as they are: for values that are already encoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn encode(
        &self,
        value: &Bytes,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        bytes.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: Bytes) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
        Ok(bytes)
    }
}

impl Codec<Vec<u8>> for Raw {
    fn encode(
        &self,
        value: &Vec<u8>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        bytes.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: Bytes) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(bytes.into())
    }
}

/// JSON by serde: readable in the store, tolerant of added fields.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V, bytes: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(serde_json::to_writer(bytes, value)?)
    }

    fn decode(&self, bytes: Bytes) -> Result<V, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// Postcard by serde: compact and fast, but fields have no names: a changed type needs a new
/// namespace.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Postcard {
    fn encode(&self, value: &V, bytes: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        postcard::to_io(value, bytes)?;
        Ok(())
    }

    fn decode(&self, bytes: Bytes) -> Result<V, Box<dyn Error + Send + Sync>> {
        Ok(postcard::from_bytes(&bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_keeps_bytes() {
        let mut bytes = Vec::new();
        Raw.encode(&Bytes::from_static(b"\0\xff"), &mut bytes).expect("encodes");
        let back: Bytes = Raw.decode(bytes.into()).expect("decodes");
        assert_eq!(&back[..], b"\0\xff");
    }

    #[cfg(all(feature = "json", feature = "postcard"))]
    #[test]
    fn serde_codecs_round_trip_and_refuse_rubbish() {
        fn check<C: Codec<(u64, String)>>(codec: C) {
            let value = (1 << 60, "ä".to_owned());
            let mut bytes = Vec::new();
            codec.encode(&value, &mut bytes).expect("encodes");
            assert_eq!(codec.decode(bytes.into()).expect("decodes"), value);
            assert!(codec.decode(Bytes::from_static(b"\xff")).is_err());
        }
        check(Json);
        check(Postcard);
    }
}
