//! What a strategy did while something broke.

use crate::{
    fault::Fault,
    figures::Figures,
    plan::Plan,
    report::{Micros, Report},
    strategy::Strategy,
    timeline::Timeline,
};

/// A strategy and what befell it.
pub struct Trial {
    /// Of Redis; `None`: the database refused.
    pub fault: Option<Fault>,
    pub strategy: Strategy,
    pub outcome: Outcome,
}

impl Trial {
    pub fn fault_name(&self) -> &'static str {
        self.fault.map_or("refused", Fault::name)
    }
}

pub enum Outcome {
    /// The strategy takes the address of one Redis, not of Sentinels.
    NotApplicable,
    Ended(Box<Ended>),
}

/// Medians over the rounds, and the last of them.
pub struct Ended {
    pub figures: Figures,
    pub timeline: Timeline,
    pub error: Option<String>,
}

/// What happened in one round, and from when to when something was broken.
pub struct Round {
    pub begin: Micros,
    pub fault: (Micros, Micros),
    pub reports: Vec<Report>,
}

impl Outcome {
    pub fn of(plan: &Plan, cut_off: Option<usize>, rounds: &[Round]) -> Self {
        let lasts = plan.work.lasts_ms() * 1000;
        let timeline = |round: &Round| {
            Timeline::of(round.begin, round.begin + lasts, round.fault, &round.reports)
        };
        let timelines: Vec<_> = rounds.iter().map(timeline).collect();
        let figures = rounds.iter().zip(&timelines).map(|(round, timeline)| {
            Figures::of(
                round.fault.0..round.fault.1,
                timeline.normal_after,
                cut_off,
                &round.reports,
            )
        });
        let middle = Figures::middle(&figures.collect::<Vec<_>>());
        let error = rounds.iter().flat_map(|round| &round.reports).find_map(|r| r.error.clone());
        match (middle, timelines.into_iter().next_back()) {
            (Some(figures), Some(timeline)) => {
                Self::Ended(Box::new(Ended { figures, timeline, error }))
            }
            _ => Self::NotApplicable,
        }
    }
}
