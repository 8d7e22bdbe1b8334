//! What Redis did, by its own statistics.

use crate::{command_count::besides_messages, error::Failure, redis_info::RedisNodes};

/// Of all nodes together; times in seconds.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    pub commands: f64,
    pub messages: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    /// Of each node.
    pub cpu: Vec<f64>,
}

impl Cost {
    /// Since the servers started.
    pub async fn so_far(nodes: &mut RedisNodes) -> Result<Self, Failure> {
        let mut sum = Self::default();
        for info in nodes.info("all").await? {
            let calls = info.calls();
            let of = |name: &str| calls.get(name).copied().unwrap_or(0) as f64;
            sum.commands += besides_messages(&calls) as f64;
            sum.messages += of("publish") + of("spublish");
            sum.bytes_in += info.figure("total_net_input_bytes");
            sum.bytes_out += info.figure("total_net_output_bytes");
            sum.cpu.push(info.figure("used_cpu_sys") + info.figure("used_cpu_user"));
        }
        Ok(sum)
    }

    pub fn cpu(&self) -> f64 {
        self.cpu.iter().sum()
    }

    /// Without this. What is too small to be told from it is zero.
    pub fn less(&self, other: &Self) -> Self {
        let less = |more: f64, less: f64| (more - less).max(0.0);
        let other_cpu = other.cpu.iter().copied().chain(std::iter::repeat(0.0));
        Self {
            commands: less(self.commands, other.commands),
            messages: less(self.messages, other.messages),
            bytes_in: less(self.bytes_in, other.bytes_in),
            bytes_out: less(self.bytes_out, other.bytes_out),
            cpu: self.cpu.iter().zip(other_cpu).map(|(more, other)| less(*more, other)).collect(),
        }
    }

    pub fn times(&self, factor: f64) -> Self {
        Self {
            commands: self.commands * factor,
            messages: self.messages * factor,
            bytes_in: self.bytes_in * factor,
            bytes_out: self.bytes_out * factor,
            cpu: self.cpu.iter().map(|cpu| cpu * factor).collect(),
        }
    }

    /// The least and the greatest share of a node in the CPU time, where there are several.
    pub fn shares(&self) -> Option<(f64, f64)> {
        let sum = self.cpu();
        if self.cpu.len() < 2 || sum <= 0.0 {
            return None;
        }
        let least = self.cpu.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.cpu.iter().copied().fold(0.0, f64::max);
        Some((least / sum, most / sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu: &[f64]) -> Cost {
        Cost { commands: 10.0, cpu: cpu.to_vec(), ..Cost::default() }
    }

    #[test]
    fn what_nobody_costs_is_taken_off() {
        let less = cost(&[3.0, 1.0]).times(2.0).less(&cost(&[1.0, 4.0]));
        assert_eq!((less.commands, less.cpu), (10.0, vec![5.0, 0.0]));
    }

    #[test]
    fn one_node_has_no_shares() {
        assert_eq!(cost(&[3.0]).shares(), None);
        assert_eq!(cost(&[3.0, 1.0]).shares(), Some((0.25, 0.75)));
    }
}
