use std::time::Duration;

/// How the keys of one namespace are spelt: `cg:{namespace:name}`, and the same with a suffix. The braces
/// put all keys of a name into one slot of a cluster.
pub(super) struct Namespace {
    prefix: String,
}

impl Namespace {
    /// `kind` keeps apart what has another meaning: `cg` for a far tier.
    pub(super) fn new(kind: &str, namespace: &str) -> Self {
        let mut prefix = format!("{kind}:{{");
        // The colon ends the namespace, also an empty one; one inside it must look different.
        let mut escaped = String::new();
        escape(namespace, &mut escaped);
        prefix.push_str(&escaped.replace(':', "%3A"));
        prefix.push(':');
        Self { prefix }
    }

    pub(super) fn key(&self, name: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + name.len() + 3);
        key.push_str(&self.prefix);
        escape(name, &mut key);
        key.push('}');
        key
    }

    pub(super) fn key_with(&self, name: &str, suffix: &str) -> String {
        let mut key = self.key(name);
        key.push_str(suffix);
        key
    }

    /// The channel of this namespace's messages. Not a hash tag: no key has this form.
    pub(super) fn channel(&self) -> String {
        format!("{}}}:events", self.prefix)
    }

    /// A channel that nobody is on, to ask whether it is allowed.
    pub(super) fn probe(&self) -> String {
        format!("{}}}:probe", self.prefix)
    }

    /// A channel without messages, on which each subscriber of [`channel`](Self::channel) is, and nobody else: who
    /// is to confirm an invalidation.
    pub(super) fn subscribers(&self) -> String {
        format!("{}}}:subscribers", self.prefix)
    }
}

/// A duration as an argument, in milliseconds. Rounded up, so that Redis keeps nothing for a shorter time. At
/// least one: Redis refuses an expiry of zero.
pub(super) fn millis(duration: Duration) -> u64 {
    // Far below 2^53, so that sums stay exact in Lua, and in seconds a u32; a century is enough for any cache.
    u64::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .clamp(1, 4_000_000_000_000)
}

/// Percent-encodes what would end a hash tag early, and the escape itself.
fn escape(text: &str, into: &mut String) {
    for part in text.split_inclusive(['{', '}', '%']) {
        let plain = part.trim_end_matches(['{', '}', '%']);
        into.push_str(plain);
        into.push_str(match &part[plain.len()..] {
            "{" => "%7B",
            "}" => "%7D",
            "%" => "%25",
            _ => "",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_key_and_one_slot() {
        let keys = Namespace::new("cg", "");
        assert_eq!(keys.key("42"), "cg:{:42}");
        assert_eq!(keys.key_with("42", ":l"), "cg:{:42}:l");
        assert_eq!(keys.key("a{b}c%"), "cg:{:a%7Bb%7Dc%25}");
        assert_eq!(keys.key("}}{"), "cg:{:%7D%7D%7B}");
        assert_eq!(keys.key(""), "cg:{:}");
        assert_ne!(keys.key("users:42"), Namespace::new("cg", "users").key("42"));
        assert_eq!(Namespace::new("cg", "users").key(""), "cg:{users:}");
        assert_eq!(Namespace::new("cg", "users").key("42"), "cg:{users:42}");
        assert_eq!(Namespace::new("cg", "a:b").key("c"), "cg:{a%3Ab:c}");
        assert_eq!(Namespace::new("cg", "users").channel(), "cg:{users:}:events");
        assert_eq!(Namespace::new("cg", "users").subscribers(), "cg:{users:}:subscribers");
    }
}
