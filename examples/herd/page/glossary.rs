//! What the columns of the table mean.

/// Names and meanings.
pub const GLOSSARY: [(&str, &str); 28] = [
    ("loads", "how many queries reached the database"),
    ("loads_peak", "the most queries that ran at the same moment"),
    ("answered", "requests that got a value"),
    ("errors", "requests that got an error instead"),
    (
        "stale_answers",
        "answers older than an invalidation that was acknowledged before they were asked for; cut: those from the process that was cut off",
    ),
    (
        "older_writes_refused",
        "loaded values that were not written, because something newer had come",
    ),
    ("p50_ms", "half of them waited no longer than this"),
    ("p99_ms", "99 in 100 waited no longer than this"),
    ("max_ms", "the longest wait"),
    ("far_commands", "commands sent to the shared store in one round"),
    ("p99_in_fault_ms", "99 in 100 of those that began during the fault were over after this"),
    ("max_in_fault_ms", "the longest of them"),
    ("expired_answers", "answers whose time was over, served because there was nothing better yet"),
    ("loads_in_fault", "queries that began during the fault"),
    ("loads_peak_per_key", "the most queries for one key in one process at the same moment"),
    (
        "loads_per_pause",
        "the most queries for one key, in all processes, within one failure back-off of cattleguard's defaults",
    ),
    (
        "normal_after_s",
        "from the end of the fault to the first 200 ms from which on no request fails, and p99 and queries are at most twice what they were before; a p99 below the time of a query is always normal",
    ),
    (
        "stale_for_ms",
        "how long the invalidation had been acknowledged that a stale answer ignored, at most",
    ),
    ("unacknowledged", "updates whose invalidation failed: nothing is promised to other processes"),
    ("per_second", "operations of the one process that works"),
    ("commands", "sent to Redis by all clients, without messages"),
    ("messages", "PUBLISH and SPUBLISH, by clients and by scripts"),
    ("cpu_us", "Redis' own CPU time, of all nodes, by its own count"),
    ("bytes_in", "what Redis received"),
    ("bytes_out", "what Redis sent"),
    ("unconfirmed", "the share of the invalidations that came back as `Unconfirmed`"),
    ("shard_cpu", "the shares of the shards in the CPU time, from the least to the most"),
    (
        "operation",
        "fill: a key that nobody has. refresh: a row that has not changed, loaded anew. change: a row with a newer version. invalidation: confirmed by every process. waiting process: one that asks for a key while another loads it, beyond the load; its latency is from the end of the load to its answer. idle process: a minute of it",
    ),
];
