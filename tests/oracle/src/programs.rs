//! Builds our own programs, and lays out the inputs that the targets read.

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// Everything the oracle builds and every file a target reads lie here.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracle")
}

/// Compiles `source` (a file among our programs) with extra `flags` into a program called `name`; returns its path.
/// What is there already and newer than its source is kept.
pub fn build(source: &str, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let source = Path::new(SOURCES).join(source);
    let directory = directory().join("programs");
    fs::create_dir_all(&directory).map_err(|e| Error::system(directory.display(), e))?;
    let program = directory.join(name);
    if is_newer(&program, &source) {
        return Ok(program);
    }
    let (compiler, fixed): (&str, &[&str]) = match source.extension().and_then(|e| e.to_str()) {
        Some("cc") => ("g++", &["-g"]),
        Some("rs") => ("rustc", &["--edition", "2024", "-Copt-level=2", "-g"]),
        _ => ("gcc", &["-g", "-pthread"]),
    };
    // Built aside and renamed, so that two runs at once do not see half a program.
    let aside = directory.join(format!("{name}.{}", std::process::id()));
    let output = Command::new(compiler).args(fixed).arg("-o").arg(&aside).arg(&source).args(flags).output();
    let output = output.map_err(|e| Error::system(format!("cannot run {compiler}"), e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("{compiler} refused {}: {said}", source.display())));
    }
    fs::rename(&aside, &program).map_err(|e| Error::system(program.display(), e))?;
    Ok(program)
}

fn is_newer(program: &Path, source: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    matches!((changed(program), changed(source)), (Some(p), Some(s)) if p > s)
}

/// Makes an empty directory `name` with the inputs in it, for one target to run in.
pub fn workplace(name: &str) -> Result<PathBuf> {
    let directory = directory().join("work").join(name);
    // It may not be there yet; what matters is that the next call succeeds.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(|e| Error::system(directory.display(), e))?;
    for (file, text) in inputs() {
        let path = directory.join(file);
        fs::write(&path, text).map_err(|e| Error::system(path.display(), e))?;
    }
    Ok(directory)
}

fn inputs() -> Vec<(&'static str, String)> {
    let mut seed = 12345u32;
    let mut words = String::new();
    for line in 0..120 {
        for _ in 0..4 {
            seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12345);
            words.push_str(&format!("{:05} ", (seed >> 12) % 9973));
        }
        words.push_str(if line % 3 == 0 { "alpha\n" } else { "omega\n" });
    }
    vec![
        ("words.txt", words),
        ("empty.txt", String::new()),
        ("small.c", SMALL_C.to_owned()),
        ("small.cc", SMALL_CC.to_owned()),
        ("small.s", SMALL_S.to_owned()),
        ("rules.mk", RULES_MK.to_owned()),
        ("small.ll", SMALL_LL.to_owned()),
        ("small.rs", SMALL_RS.to_owned()),
        ("words.json", r#"[{"a":1,"b":"x"},{"a":2,"b":"z"},{"a":3.5,"b":"y","d":[null,true]}]"#.to_owned()),
        ("script.tcl", SCRIPT_TCL.to_owned()),
        ("script.bc", "scale=20\ne(1)\nfor (i = 1; i < 6; i++) s(i) * l(i) / i\nquit\n".to_owned()),
        ("script.pl", SCRIPT_PL.to_owned()),
        ("script.py", SCRIPT_PY.to_owned()),
        ("script.sh", SCRIPT_SH.to_owned()),
        ("script.sql", SCRIPT_SQL.to_owned()),
    ]
}

const SMALL_C: &str = r#"
struct node { struct node *next; double weight; int key[4]; };
static int table[16];
extern int printf(const char *, ...);
static inline int hash(int x) { return (x * 31 + 7) & 15; }
int insert(struct node **list, struct node *n) {
    while (*list && (*list)->key[0] < n->key[0]) list = &(*list)->next;
    n->next = *list; *list = n;
    for (int i = 0; i < 4; i++) table[hash(n->key[i])] += n->key[i];
    return table[3];
}
double sum(const struct node *n) { double s = 0; for (; n; n = n->next) s += n->weight * n->key[1]; return s; }
int main(int argc, char **argv) {
    struct node nodes[8], *list = 0;
    for (int i = 0; i < 8; i++) { nodes[i].weight = i * 0.5; nodes[i].key[0] = argc ^ i; insert(&list, &nodes[i]); }
    switch (argc) { case 1: printf("%f", sum(list)); break; case 2: case 3: return argv[1][0]; default: return 7; }
    return 0;
}
"#;

const SMALL_CC: &str = r#"
template <class T> struct Stack {
    T items[8]; int n = 0;
    void push(T t) { if (n == 8) throw n; items[n++] = t; }
    ~Stack() { while (n) --n; }
};
struct Shape { virtual double area() const = 0; virtual ~Shape() {} };
struct Square : Shape { double s; Square(double s) : s(s) {} double area() const override { return s * s; } };
double total(int n) {
    Stack<Shape *> stack;
    try { for (int i = 0; i < n; i++) stack.push(new Square(i)); } catch (int) { return -1; }
    double sum = 0;
    auto add = [&](const Shape &shape) { sum += shape.area(); };
    for (int i = 0; i < stack.n; i++) { add(*stack.items[i]); delete stack.items[i]; }
    return sum;
}
"#;

const SMALL_S: &str = r#"
    .text
    .globl f
    .type f, @function
f:  .cfi_startproc
    push %rbx
    .cfi_def_cfa_offset 16
    .cfi_offset 3, -16
    lea table(%rip), %rbx
    vaddps %ymm1, %ymm2, %ymm3
    mov (%rbx,%rdi,8), %rax
    pop %rbx
    ret
    .cfi_endproc
    .size f, . - f
    .data
table: .quad f, f + 4, 0x1234
"#;

const SMALL_LL: &str = r#"
define i32 @sum(i32* %words, i32 %count) {
start:
  %none = icmp slt i32 %count, 1
  br i1 %none, label %done, label %next
next:
  %i = phi i32 [ 0, %start ], [ %after, %next ]
  %sum = phi i32 [ 0, %start ], [ %more, %next ]
  %word = getelementptr i32, i32* %words, i32 %i
  %value = load i32, i32* %word
  %more = add i32 %sum, %value
  %after = add i32 %i, 1
  %last = icmp eq i32 %after, %count
  br i1 %last, label %done, label %next
done:
  %result = phi i32 [ 0, %start ], [ %more, %next ]
  ret i32 %result
}
"#;

const SMALL_RS: &str = r#"
use std::collections::BTreeMap;
pub struct Tree<T> { pub left: Option<Box<Tree<T>>>, pub right: Option<Box<Tree<T>>>, pub value: T }
impl<T: Ord + Clone> Tree<T> {
    pub fn insert(&mut self, value: T) { let side = if value < self.value { &mut self.left } else { &mut self.right };
        match side { Some(tree) => tree.insert(value), None => *side = Some(Box::new(Tree { left: None, right: None, value })) } }
}
fn main() { let mut m = BTreeMap::new(); for w in "a b a".split(' ') { *m.entry(w).or_insert(0) += 1; } println!("{m:?}"); }
"#;

const SCRIPT_TCL: &str = r#"
proc fib {n} { if {$n < 2} { return $n }; expr {[fib [expr {$n - 1}]] + [fib [expr {$n - 2}]]} }
array set seen {}
foreach word [split "a rose is a rose" " "] { incr seen($word) }
if {[catch {error "broken"} said]} { puts "$said [fib 5] [lsort [array names seen]]" }
puts [regsub -all {[aeiou]} "substitution" "_"]
"#;

const RULES_MK: &str = r#"
NAMES := $(patsubst %.c,%.o,$(wildcard *.c)) $(foreach n,one two three,$(n).o)
all: $(NAMES)
%.o: %.c
	cc -c $< -o $@
one.o two.o three.o: small.c
	@echo $(subst .o,,$@) $(words $(NAMES))
"#;

const SCRIPT_PL: &str = r#"
my %count; open(my $in, "<", "words.txt") or die; my $n = 0;
while (<$in>) { last if $n++ > 20; $count{$_}++ for split; s/(\d+)\s+(\w+)/$2-$1/g; }
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
eval { die { code => 7 } }; printf "%s %d %s\n", $top[0], $count{$top[0]}, $@->{code};
print join(",", map { sprintf "%x", $_ ** 2 } grep { $_ % 3 } 1 .. 20), "\n";
"#;

const SCRIPT_PY: &str = r#"
import re
counts = {}
for line in open("words.txt"):
    for word in line.split():
        counts[word] = counts.get(word, 0) + 1
class Broken(Exception): pass
def fails(n):
    if n == 0: raise Broken("bottom")
    return fails(n - 1) + 1
try: fails(10)
except Broken as e: print(e, max(counts, key=counts.get))
print(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:3], re.sub(r"(\d)\1", "=", "1223334"), 3 ** 200 % 997)
"#;

const SCRIPT_SH: &str = r#"
total=0
trap 'total=$((total+1))' USR1
count() { for word in "$@"; do case $word in alpha) n=$((n+1));; [0-9]*) total=$((total+1));; esac; done; }
while read -r a b c d e; do count $a $b $c $d $e; done < words.txt
echo "$n $total ${a#0} $(echo nested)"
"#;

const SCRIPT_SQL: &str = r#"
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i+1 from n where i < 40)
  insert into t select i, printf('w%03d', i * 37 % 101), i / 3.0 from n;
create index tb on t(b);
select b, sum(c), count(*) from t where a % 3 = 1 group by substr(b, 1, 3) order by 2 desc limit 4;
select group_concat(b) from (select b from t where b like 'w0%' order by b);
update t set c = c * 2 where b between 'w02' and 'w05'; delete from t where a > 30; select total(c) from t;
"#;
