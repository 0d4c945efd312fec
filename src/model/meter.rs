//! What people want to know while they wait, made from the events of an operation and their times.
//!
//! Has no clock of its own: whoever shows progress says when an event came, so that every face tells the same, and a
//! test can let hours pass. Amounts and percentages only grow within a phase.

use super::app::AppId;
use super::progress::{Event, Phase};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Over how long the recent speed is measured, in samples.
const SAMPLES: usize = 24;
/// How far samples are apart.
const APART: Duration = Duration::from_secs(1);
/// Sooner no time left is guessed.
const SOONEST: Duration = Duration::from_secs(3);

/// How far an operation is at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What is being done.
    pub phase: Phase,
    /// The app that is being worked on, where that is known.
    pub app: Option<AppId>,
    /// Bytes processed in this phase.
    pub bytes_done: u64,
    /// Bytes that the phase will process, where that is known.
    pub total_bytes: Option<u64>,
    /// Files and other entries processed in this phase.
    pub files_done: u64,
    /// 0 to 100, where the total is known.
    pub percent_done: Option<u8>,
    /// How long the phase runs.
    pub seconds_elapsed: u64,
    /// The speed at the moment.
    pub bytes_per_second: u64,
    /// How long it may still take, where that can be told.
    pub seconds_remaining: Option<u64>,
    /// For how long nothing has moved.
    pub seconds_idle: u64,
}

/// Takes events and tells how far the operation is.
#[derive(Debug, Default)]
pub struct Meter {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    phase: Phase,
    app: Option<AppId>,
    bytes: u64,
    total: Option<u64>,
    files: u64,
    started: Duration,
    moved: Duration,
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Takes one event, which came at `now`: the time since any fixed moment.
    pub fn take(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Phase { phase, total } => {
                let app = self.running.take().and_then(|running| running.app);
                self.running = Some(Running {
                    phase: *phase,
                    app: app.filter(|_| matches!(phase, Phase::ReadBack | Phase::Exchange)),
                    bytes: 0,
                    total: *total,
                    files: 0,
                    started: now,
                    moved: now,
                    samples: VecDeque::from([(now, 0)]),
                });
            }
            Event::Advance { bytes, entries } => {
                let Some(running) = self.running.as_mut() else { return };
                running.bytes = running.bytes.saturating_add(*bytes);
                running.files = running.files.saturating_add(*entries);
                running.moved = now;
                running.sample(now);
            }
            Event::App { name } => {
                if let Some(running) = self.running.as_mut() {
                    running.app = Some(name.clone());
                }
            }
            Event::End => self.running = None,
        }
    }

    /// How far it is at `now`; `None` before the first phase.
    pub fn at(&self, now: Duration) -> Option<Snapshot> {
        let running = self.running.as_ref()?;
        let total = running.total.filter(|total| *total > 0);
        let bytes_done = total.map_or(running.bytes, |total| running.bytes.min(total));
        Some(Snapshot {
            phase: running.phase,
            app: running.app.clone(),
            bytes_done,
            total_bytes: total,
            files_done: running.files,
            percent_done: total.map(|total| percent(bytes_done, total)),
            seconds_elapsed: now.saturating_sub(running.started).as_secs(),
            bytes_per_second: running.recent(now) as u64,
            seconds_remaining: total.and_then(|total| running.remaining(total - bytes_done, now)),
            seconds_idle: now.saturating_sub(running.moved).as_secs(),
        })
    }
}

fn percent(done: u64, total: u64) -> u8 {
    u8::try_from(u128::from(done) * 100 / u128::from(total.max(1))).unwrap_or(100).min(100)
}

impl Running {
    fn sample(&mut self, now: Duration) {
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= APART) {
            self.samples.push_back((now, self.bytes));
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
        }
    }

    /// Bytes per second of late.
    fn recent(&self, now: Duration) -> f64 {
        let (at, bytes) = self.samples.front().copied().unwrap_or((self.started, 0));
        speed(self.bytes.saturating_sub(bytes), now.saturating_sub(at))
    }

    /// Seconds for the rest: at a speed between that of the whole phase, which knows its pauses, and that of late.
    fn remaining(&self, left: u64, now: Duration) -> Option<u64> {
        let elapsed = now.saturating_sub(self.started);
        let speed = f64::midpoint(speed(self.bytes, elapsed), self.recent(now));
        let can_tell = left == 0 || (elapsed >= SOONEST && speed >= 1.0);
        can_tell.then(|| if left == 0 { 0 } else { (left as f64 / speed).ceil() as u64 })
    }
}

fn speed(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: u64 = 6_000_000_000;

    /// Bytes that a workload moves in one tick of a tenth of a second, by how much it moved already.
    type Workload = fn(tick: u64, done: u64) -> u64;

    /// Five kinds of work as they are seen on real disks: the speed wanders, stops, starts slowly, gets worse.
    const WORKLOADS: [(&str, Workload); 5] = [
        ("steady", |_, _| 2_000_000),
        ("the disk writes in bursts of 8 s and rests for 4 s", |tick, _| if tick % 120 < 80 { 3_000_000 } else { 0 }),
        ("a slow start of 10 s", |tick, _| if tick < 100 { 200_000 } else { 2_500_000 }),
        (
            "many small files, then large ones, again and again",
            |tick, _| {
                if (tick / 70) % 2 == 0 { 900_000 } else { 3_100_000 }
            },
        ),
        ("a card that gets slower by a fifth", |_, done| {
            2_400_000 - 400_000 * (done / 1_000_000) / (TOTAL / 1_000_000)
        }),
    ];

    /// Runs a workload on a clock of its own; every snapshot with its time, one each second.
    fn run(workload: Workload) -> Vec<(Duration, Snapshot)> {
        let (mut meter, mut done, mut tick, mut seen) = (Meter::default(), 0, 0, Vec::new());
        meter.take(&Event::Phase { phase: Phase::Stage, total: Some(TOTAL) }, Duration::ZERO);
        while done < TOTAL {
            tick += 1;
            let now = Duration::from_millis(tick * 100);
            let bytes = workload(tick, done).min(TOTAL - done);
            if bytes > 0 {
                done += bytes;
                meter.take(&Event::Advance { bytes, entries: 1 }, now);
            }
            if tick % 10 == 0 {
                seen.push((now, meter.at(now).unwrap()));
            }
        }
        let end = Duration::from_millis(tick * 100);
        if seen.last().is_none_or(|(last, _)| *last < end) {
            seen.push((end, meter.at(end).unwrap()));
        }
        seen
    }

    #[test]
    fn the_time_left_is_right_within_a_quarter_after_a_tenth_of_the_work() {
        for (name, workload) in WORKLOADS {
            let seen = run(workload);
            let end = seen.last().unwrap().0;
            for (now, snapshot) in
                seen.iter().filter(|(_, snapshot)| (10..95).contains(&snapshot.percent_done.unwrap()))
            {
                let left = (end - *now).as_secs_f64();
                let told = snapshot.seconds_remaining.unwrap() as f64;
                // The last pauses of a bursty disk cannot be foreseen: a few seconds are allowed at the end.
                let off = (told - left).abs();
                assert!(off <= left * 0.25 + 4.0, "{name}: at {now:?} {told} s were told, {left} s were left");
            }
        }
    }

    #[test]
    fn amounts_never_go_back_and_end_at_all_of_it() {
        for (name, workload) in WORKLOADS {
            let seen = run(workload);
            for pair in seen.windows(2) {
                let (before, after) = (&pair[0].1, &pair[1].1);
                assert!(after.bytes_done >= before.bytes_done && after.percent_done >= before.percent_done, "{name}");
            }
            let last = &seen.last().unwrap().1;
            assert_eq!(
                (last.percent_done, last.bytes_done, last.seconds_remaining),
                (Some(100), TOTAL, Some(0)),
                "{name}"
            );
            assert!(seen.iter().rev().skip(1).all(|(_, snapshot)| snapshot.percent_done < Some(100)), "{name}");
        }
    }

    #[test]
    fn standing_still_is_told() {
        let mut meter = Meter::default();
        assert!(meter.at(Duration::ZERO).is_none());
        meter.take(&Event::Phase { phase: Phase::Verify, total: Some(1 << 30) }, Duration::ZERO);
        meter.take(&Event::Advance { bytes: 1 << 20, entries: 1 }, Duration::from_secs(1));
        assert_eq!(meter.at(Duration::from_secs(1)).unwrap().seconds_idle, 0);
        let later = meter.at(Duration::from_secs(61)).unwrap();
        assert!(later.seconds_idle == 60 && later.bytes_per_second < (1 << 20) / 30, "{later:?}");
        // More than was foreseen is not more than all.
        meter.take(&Event::Advance { bytes: 2 << 30, entries: 1 }, Duration::from_secs(62));
        assert_eq!(meter.at(Duration::from_secs(62)).unwrap().percent_done, Some(100));
    }
}
