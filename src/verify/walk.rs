//! Follows code from the roots until nothing new is found.

use super::binary::Binary;
use super::depth::Frame;
use super::doom::Segment;
use super::names::{Judged, Rules, never_returns};
use super::value::{State, Value};
use super::{Edge, Offence, Options, Thread, Verified};
use iced_x86::InstructionInfoFactory;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Most runs through a piece of straight code: a hundred times what a large handler takes.
const MOST: usize = 4_000_000;

/// A function as it is called: its code, with what was split off from it.
pub(super) struct Node {
    /// Where it is entered.
    pub entry: u64,
    /// Who called it first.
    pub came: Option<Came>,
    /// What it is called with.
    pub arguments: [Value; 6],
    /// What holds where control comes together or begins.
    pub blocks: BTreeMap<u64, State>,
    /// What it returns in rax and rdx, if it can return.
    pub returns: Option<[Value; 2]>,
    /// A stub without a symbol of its own that leads through a linkage slot.
    pub stub: bool,
    /// Its calls, by node and address: what follows, and what then holds.
    callers: BTreeMap<(usize, u64), (u64, State)>,
    /// Functions that jump to it at their end.
    tails: BTreeSet<usize>,
    /// Its own stack, and whom it calls.
    pub frame: Frame,
    /// Pieces without a branch, by where they begin.
    pub segments: BTreeMap<u64, Segment>,
}

/// How a function was reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// From which node.
    pub node: usize,
    /// By the instruction at this address.
    pub site: u64,
    /// How.
    pub edge: Edge,
}

/// A slot of what may be a vtable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Bytes from the start to it.
    pub offset: i64,
    /// Where the callee's frame begins, below the caller's return address.
    pub depth: Option<u64>,
}

/// What a callee is.
pub(super) enum Callee {
    /// Code that is followed.
    Node(usize),
    /// Not followed, and comes back.
    Back,
    /// Not followed, and does not come back.
    Never,
    /// An entry to a panic.
    Escape,
}

/// The search.
pub(super) struct Walk<'b> {
    pub binary: &'b Binary,
    pub options: &'b Options,
    rules: Rules,
    judged: HashMap<String, Judged>,
    pub nodes: Vec<Node>,
    entries: HashMap<u64, usize>,
    queue: VecDeque<(usize, u64)>,
    queued: HashSet<(usize, u64)>,
    pub factory: InstructionInfoFactory,
    pub offences: BTreeMap<(Offence, u64), Came>,
    pub escapes: BTreeMap<String, BTreeSet<u64>>,
    pub allowed: BTreeSet<String>,
    /// Calls through a slot of what may be a vtable: by node and address, which slot.
    pub slots: BTreeMap<(usize, u64), Slot>,
    /// What those slots hold, by the call's address.
    pub callees: BTreeMap<u64, BTreeSet<String>>,
    /// Vtables to which reached code refers.
    pub vtables: BTreeSet<u64>,
    pub resolved: BTreeSet<u64>,
    pub system_calls: BTreeMap<u64, Value>,
    /// Data that was looked into.
    pub seen: HashSet<u64>,
    /// References that were followed, by the instruction's address.
    pub followed: HashSet<(u64, u64)>,
    /// For what is in no node.
    pub nowhere: Segment,
    /// Addresses that some code of the file refers to, ascending; made when it is first needed.
    pub referred: Option<Vec<u64>>,
}

impl<'b> Walk<'b> {
    /// Nothing is reached yet.
    pub fn new(binary: &'b Binary, options: &'b Options) -> Self {
        Self {
            binary,
            options,
            rules: Rules::new(&options.allowed),
            judged: HashMap::new(),
            nodes: Vec::new(),
            entries: HashMap::new(),
            queue: VecDeque::new(),
            queued: HashSet::new(),
            factory: InstructionInfoFactory::new(),
            offences: BTreeMap::new(),
            escapes: BTreeMap::new(),
            allowed: BTreeSet::new(),
            slots: BTreeMap::new(),
            callees: BTreeMap::new(),
            vtables: BTreeSet::new(),
            resolved: BTreeSet::new(),
            system_calls: BTreeMap::new(),
            seen: HashSet::new(),
            followed: HashSet::new(),
            nowhere: Segment::default(),
            referred: None,
        }
    }

    /// Follows everything from `roots`.
    pub fn verify(mut self, roots: &[u64]) -> Verified {
        let roots: Vec<usize> = roots.iter().map(|root| self.node(*root, None)).collect();
        for root in &roots {
            self.pass(*root, &[const { Value::Any }; 6]);
        }
        let mut runs = 0usize;
        while runs <= MOST {
            match self.queue.pop_front() {
                Some((node, at)) => {
                    self.queued.remove(&(node, at));
                    runs = runs.saturating_add(1);
                    self.run(node, at);
                }
                None if self.follow_references() => {}
                None => return self.verified(&roots),
            }
        }
        let first = roots.first().copied().unwrap_or_default();
        let site = self.nodes.get(first).map_or(0, |node| node.entry);
        self.offend(Offence::TooMuch, Came { node: first, site, edge: Edge::Here });
        self.verified(&roots)
    }

    /// The node that begins at `entry`.
    fn node(&mut self, entry: u64, came: Option<Came>) -> usize {
        if let Some(node) = self.entries.get(&entry) {
            return *node;
        }
        let index = self.nodes.len();
        self.entries.insert(entry, index);
        let stub = self.binary.symbols.function(entry).is_none() && self.is_stub(entry);
        self.nodes.push(Node {
            entry,
            came,
            arguments: [const { Value::Known(Vec::new()) }; 6],
            blocks: BTreeMap::new(),
            returns: None,
            stub,
            callers: BTreeMap::new(),
            tails: BTreeSet::new(),
            frame: Frame::default(),
            segments: BTreeMap::new(),
        });
        index
    }

    /// `node` may be called with these arguments.
    fn pass(&mut self, node: usize, arguments: &[Value; 6]) {
        let Some(found) = self.nodes.get_mut(node) else { return };
        for (known, passed) in found.arguments.iter_mut().zip(arguments) {
            *known = known.passed(passed);
        }
        let (entry, state) = (found.entry, State::at_entry(&found.arguments));
        self.join(node, entry, &state);
    }

    /// Control comes to `address` in `node`, and this holds.
    pub fn join(&mut self, node: usize, address: u64, state: &State) {
        let Some(found) = self.nodes.get_mut(node) else { return };
        let changed = match found.blocks.get_mut(&address) {
            Some(known) => known.join(state),
            None => {
                found.blocks.insert(address, state.clone());
                true
            }
        };
        if changed {
            self.again(node, address);
        }
    }

    /// A block is looked at once more.
    fn again(&mut self, node: usize, address: u64) {
        if self.queued.insert((node, address)) {
            self.queue.push_back((node, address));
        }
    }

    /// Something at `came` leads to the function at `address`.
    pub fn enter(&mut self, address: u64, arguments: &[Value; 6], came: Came) -> Callee {
        let binary = self.binary;
        if let Some(import) = binary.import(address) {
            let symbol = import.symbol.clone();
            let judged = self.judge(&symbol);
            if judged == Judged::Unknown {
                return self.cut(Judged::Forbidden, &symbol, came);
            }
            return self.cut(judged, &symbol, came);
        }
        if !binary.symbols.is_code(address) {
            self.offend(Offence::NoCode(address), came);
            return Callee::Back;
        }
        let names: Vec<String> = binary.symbols.names_at(address).map(str::to_owned).collect();
        for symbol in names {
            let judged = self.judge(&symbol);
            if judged != Judged::Unknown {
                return self.cut(judged, &symbol, came);
            }
        }
        // What lies inside a function that is allowed is allowed too.
        let around = binary.symbols.function(address).map(|function| function.symbol.clone());
        if let Some(symbol) = around.filter(|symbol| self.judge(symbol) == Judged::Allowed) {
            return self.cut(Judged::Allowed, &symbol, came);
        }
        let node = self.node(address, Some(came));
        self.pass(node, arguments);
        Callee::Node(node)
    }

    fn judge(&mut self, symbol: &str) -> Judged {
        if let Some(known) = self.judged.get(symbol) {
            return *known;
        }
        let judged = self.rules.judge(symbol);
        self.judged.insert(symbol.to_owned(), judged);
        judged
    }

    /// A function that is not followed.
    fn cut(&mut self, judged: Judged, symbol: &str, came: Came) -> Callee {
        let name = crate::symbol::demangle(symbol);
        match judged {
            Judged::Allowed => {
                self.allowed.insert(name);
            }
            Judged::Escape => {
                self.escapes.entry(name).or_default().insert(came.site);
                return Callee::Escape;
            }
            Judged::Thread if self.options.thread == Thread::Allowed => {}
            Judged::Thread => self.offend(Offence::Thread(name), came),
            Judged::Forbidden | Judged::Unknown => self.offend(Offence::Function(name), came),
        }
        if never_returns(symbol) { Callee::Never } else { Callee::Back }
    }

    /// Something is wrong at `came`.
    pub fn offend(&mut self, what: Offence, came: Came) {
        self.offences.entry((what, came.site)).or_insert(came);
    }

    /// Code touches thread-local storage.
    pub fn thread(&mut self, what: &str, came: Came) {
        if self.options.thread == Thread::Refused {
            self.offend(Offence::Thread(what.to_owned()), came);
        }
    }

    /// A system call instruction with this number.
    pub fn system_call(&mut self, site: u64, number: Value) {
        let known = self.system_calls.entry(site).or_insert(Value::Known(Vec::new()));
        *known = known.passed(&number);
    }

    /// A call at `site` comes back to `next` if `callee` does; `behind` is what then holds.
    pub fn called(&mut self, node: usize, site: u64, next: u64, callee: &Callee, behind: &State) {
        match callee {
            Callee::Never | Callee::Escape => {}
            Callee::Back => self.join(node, next, behind),
            Callee::Node(callee) => {
                let Some(found) = self.nodes.get_mut(*callee) else { return };
                let (_, known) = found.callers.entry((node, site)).or_insert_with(|| (next, behind.clone()));
                known.join(behind);
                let returns = found.returns.clone();
                if let Some(results) = returns {
                    let mut behind = behind.clone();
                    behind.results(&results);
                    self.join(node, next, &behind);
                }
            }
        }
    }

    /// `node` ends with a jump to `callee`.
    pub fn tail(&mut self, node: usize, callee: &Callee) {
        match callee {
            Callee::Never | Callee::Escape => {}
            Callee::Back => self.returned(node, &[Value::Any, Value::Any]),
            Callee::Node(callee) => {
                let Some(found) = self.nodes.get_mut(*callee) else { return };
                found.tails.insert(node);
                if let Some(results) = found.returns.clone() {
                    self.returned(node, &results);
                }
            }
        }
    }

    /// `node` can return with these results: whoever called it goes on.
    pub fn returned(&mut self, node: usize, results: &[Value; 2]) {
        let mut all = vec![node];
        while let Some(node) = all.pop() {
            let Some(found) = self.nodes.get_mut(node) else { continue };
            let [first, second] = results;
            let joined = match &found.returns {
                Some([one, other]) => [one.join(first), other.join(second)],
                None => results.clone(),
            };
            if found.returns.as_ref() == Some(&joined) {
                continue;
            }
            found.returns = Some(joined.clone());
            all.extend(found.tails.iter().copied());
            for ((caller, _), (next, mut state)) in found.callers.clone() {
                state.results(&joined);
                self.join(caller, next, &state);
            }
        }
    }
}
