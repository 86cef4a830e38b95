//! Programs with the kernel's verdict, as text: one `case … end` each.
//!
//! ```text
//! case NAME
//! type 6
//! gpl 1
//! verdict 13                      the kernel's errno, 0 for accepted
//! message R1 invalid mem access   the log's last line
//! map 0 TYPE KEY VALUE ENTRIES FLAGS SPIN TIMER BTF NAME
//! data 0 HEX                      what a frozen map holds
//! func START ISGLOBAL NAME ISVOID s|c|mSIZE|nSIZE|u …
//! insns HEX HEX …
//! end
//! ```

use weir_bpf::insn::Insn;
use weir_bpf::verifier::rules::Rules;
use weir_bpf::verifier::{
    Function, FunctionArgument, MapFacts, Rejected, Unverified, Verified, VerifyOptions, verify,
};

#[derive(Clone, Debug, Default)]
pub struct OwnedMap {
    pub name: String,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub constant: Option<Vec<u8>>,
    pub has_btf: bool,
    pub spin_lock: Option<u32>,
    pub timer: Option<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub program_type: u32,
    pub flags: u32,
    pub gpl: bool,
    pub verdict: i32,
    pub message: String,
    pub processed: u32,
    /// It uses something that this format cannot say.
    pub odd: bool,
    pub maps: Vec<OwnedMap>,
    pub functions: Vec<Function>,
    pub insns: Vec<Insn>,
}

impl Case {
    pub fn verify(&self, options: &VerifyOptions) -> Option<Result<Verified, Rejected>> {
        let rules = Rules::of_type(self.program_type)?;
        let inner = MapFacts {
            name: "inner",
            map_type: MapFacts::ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            ..MapFacts::default()
        };
        let nested =
            |map_type| matches!(map_type, MapFacts::ARRAY_OF_MAPS | MapFacts::HASH_OF_MAPS);
        let maps: Vec<MapFacts<'_>> = self
            .maps
            .iter()
            .map(|map| MapFacts {
                name: &map.name,
                map_type: map.map_type,
                key_size: map.key_size,
                value_size: map.value_size,
                max_entries: map.max_entries,
                flags: map.flags,
                constant: map.constant.as_deref(),
                has_btf: map.has_btf,
                spin_lock: map.spin_lock,
                timer: map.timer,
                inner: nested(map.map_type).then_some(&inner),
            })
            .collect();
        let program = Unverified {
            insns: &self.insns,
            maps: &maps,
            rules,
            gpl: self.gpl,
            functions: &self.functions,
            lines: &[],
        };
        // BPF_F_STRICT_ALIGNMENT and BPF_F_TEST_STATE_FREQ.
        let options = VerifyOptions {
            strict_alignment: self.flags & 1 != 0,
            checkpoint_often: self.flags & 8 != 0,
            ..*options
        };
        Some(verify(&program, &options))
    }
}

pub fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = Case::default();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.trim().parse::<i64>().unwrap_or(0);
        match word {
            "case" => case = Case { name: rest.to_owned(), ..Case::default() },
            "type" => case.program_type = number() as u32,
            "flags" => case.flags = number() as u32,
            "gpl" => case.gpl = number() != 0,
            "verdict" => case.verdict = number() as i32,
            "message" => case.message = rest.to_owned(),
            "processed" => case.processed = number() as u32,
            "odd" => case.odd = true,
            "map" => case.maps.push(map(rest)),
            "data" => data(&mut case, rest),
            "func" => case.functions.push(function(rest)),
            "insns" => case.insns = rest.split_whitespace().map(insn).collect(),
            "end" => cases.push(std::mem::take(&mut case)),
            _ => {}
        }
    }
    cases
}

fn map(text: &str) -> OwnedMap {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |i: usize| words[i].parse::<i64>().unwrap();
    let place = |i: usize| u32::try_from(number(i)).ok();
    OwnedMap {
        map_type: number(1) as u32,
        key_size: number(2) as u32,
        value_size: number(3) as u32,
        max_entries: number(4) as u32,
        flags: number(5) as u32,
        spin_lock: place(6),
        timer: place(7),
        has_btf: number(8) != 0,
        name: words.get(9).unwrap_or(&"?").to_string(),
        constant: None,
    }
}

fn data(case: &mut Case, text: &str) {
    let (index, hex) = text.split_once(' ').unwrap();
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    let bytes = (0..hex.len() / 2).map(|i| byte(i * 2)).collect();
    case.maps[index.parse::<usize>().unwrap()].constant = Some(bytes);
}

fn function(text: &str) -> Function {
    let words: Vec<&str> = text.split_whitespace().collect();
    let argument = |word: &&str| {
        let size = || word[1..].parse().unwrap();
        match &word[..1] {
            "s" => FunctionArgument::Scalar,
            "c" => FunctionArgument::Context,
            "m" => FunctionArgument::Memory { size: size(), nullable: true },
            "n" => FunctionArgument::Memory { size: size(), nullable: false },
            _ => FunctionArgument::Unsupported,
        }
    };
    Function {
        start: words[0].parse().unwrap(),
        global: words[1] == "1",
        name: words[2].to_owned(),
        returns_void: words[3] == "1",
        arguments: words[4..].iter().map(argument).collect(),
    }
}

pub fn insn(hex: &str) -> Insn {
    let value = u64::from_str_radix(hex, 16).unwrap();
    Insn::from_bytes(value.to_be_bytes())
}
