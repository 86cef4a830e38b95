//! `/v1/programs`: what is loaded.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use weir_dataplane::counters::ProgramCounters;

use super::{App, Failure};

/// One program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its section in the object.
    pub section: String,
    /// Id of the object.
    pub object: u32,
    /// Where the object came from.
    pub source: String,
    /// Instructions.
    pub instructions: usize,
    /// Ids of the object's maps.
    pub maps: Vec<u32>,
    /// Ids of its links, in the order in which programs run.
    pub links: Vec<u64>,
    /// What it did in all of them.
    pub runs: Runs,
}

/// How runs ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// All of them.
    pub runs: u64,
    /// SK_PASS.
    pub passed: u64,
    /// SK_DROP.
    pub dropped: u64,
    /// Stopped for breaking a rule.
    pub faulted: u64,
    /// Of all, those whose outcome was known from a like packet.
    pub recalled: u64,
}

impl From<ProgramCounters> for Runs {
    fn from(counters: ProgramCounters) -> Runs {
        Runs {
            runs: counters.runs,
            passed: counters.passed,
            dropped: counters.dropped,
            faulted: counters.faulted,
            recalled: counters.recalled,
        }
    }
}

impl Runs {
    fn add(&mut self, other: Runs) {
        self.runs += other.runs;
        self.passed += other.passed;
        self.dropped += other.dropped;
        self.faulted += other.faulted;
        self.recalled += other.recalled;
    }
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Program>>, Failure> {
    let mut plane = app.plane().await?;
    plane.fleet.refresh().await?;
    let mut programs = Vec::new();
    for object in plane.steering.objects() {
        for (id, program) in &object.programs {
            let links: Vec<u64> = plane
                .steering
                .links()
                .iter()
                .filter(|link| link.program == *id)
                .map(|link| link.id)
                .collect();
            let mut runs = Runs::default();
            links.iter().for_each(|&link| runs.add(plane.fleet.program(link).into()));
            programs.push(Program {
                id: *id,
                name: program.name().into(),
                section: program.section().into(),
                object: object.id,
                source: object.source.clone(),
                instructions: program.instructions(),
                maps: object.maps.iter().map(|&(id, _)| id).collect(),
                links,
                runs,
            });
        }
    }
    Ok(Json(programs))
}
