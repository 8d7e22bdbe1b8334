//! How long and how deep the functions are.
//!
//! The length runs from the line of `fn` to that of the closing brace. A level is a body inside the
//! function's own: of `if` (a whole `else if` chain is one), `match` (its arms together), a loop, an
//! async or plain block, a closure with a block, a macro call in braces. An arm of `select!` with a
//! block is one more. The `else` of a `let` is none. A function inside a function begins at zero.

use syn::{
    Arm, Block, Expr, ExprIf, ImplItemFn, ItemFn, Local, Macro, MacroDelimiter, Pat, Signature,
    Token, TraitItemFn,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    visit::{self, Visit},
};

use super::source::Sources;

const MAX_LINES: usize = 60;
const MAX_DEPTH: usize = 4;

#[derive(Default)]
pub struct Function {
    pub file: String,
    pub line: usize,
    pub name: String,
    pub length: usize,
    pub depth: usize,
}

/// Every function that is too long or too deep.
pub fn faults(sources: &Sources) -> Vec<String> {
    let all = functions(sources);
    let big = all.iter().filter(|one| one.length > MAX_LINES || one.depth > MAX_DEPTH);
    big.map(|Function { file, line, name, length, depth }| {
        format!("{file}:{line} fn {name}: {length} lines, depth {depth}")
    })
    .collect()
}

pub fn functions(sources: &Sources) -> Vec<Function> {
    let mut measure = Measure::default();
    for (file, parsed) in &sources.parsed {
        measure.file.clone_from(file);
        measure.visit_file(parsed);
    }
    measure.done.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    measure.done
}

#[derive(Default)]
struct Measure {
    file: String,
    depth: usize,
    deepest: usize,
    done: Vec<Function>,
}

impl Measure {
    fn function(&mut self, signature: &Signature, body: &Block) {
        let outer = (self.depth, self.deepest);
        (self.depth, self.deepest) = (0, 0);
        self.visit_block(body);
        let line = signature.fn_token.span.start().line;
        self.done.push(Function {
            file: self.file.clone(),
            line,
            name: signature.ident.to_string(),
            length: body.brace_token.span.close().end().line - line + 1,
            depth: self.deepest,
        });
        (self.depth, self.deepest) = outer;
    }

    fn deeper(&mut self, inside: impl FnOnce(&mut Self)) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        inside(self);
        self.depth -= 1;
    }

    /// The body of an arm or an `else`: its braces belong to what is counted already.
    fn bare(&mut self, body: &Expr) {
        match body {
            Expr::Block(block) => self.visit_block(&block.block),
            Expr::If(chain) => self.chain(chain),
            _ => self.visit_expr(body),
        }
    }

    fn chain(&mut self, chain: &ExprIf) {
        self.visit_expr(&chain.cond);
        self.visit_block(&chain.then_branch);
        if let Some((_, otherwise)) = &chain.else_branch {
            self.bare(otherwise);
        }
    }

    fn select_arm(&mut self, arm: &SelectArm) {
        arm.conditions.iter().for_each(|condition| self.visit_expr(condition));
        self.visit_expr(&arm.body);
    }
}

impl<'ast> Visit<'ast> for Measure {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.function(&function.sig, &function.block);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.function(&function.sig, body);
        }
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        let counts = match expr {
            Expr::If(chain) => return self.deeper(|inside| inside.chain(chain)),
            Expr::Closure(closure) => matches!(*closure.body, Expr::Block(_)),
            Expr::Async(_) | Expr::Block(_) | Expr::Const(_) | Expr::Unsafe(_) => true,
            _ => false,
        };
        match expr {
            Expr::Closure(closure) if counts => self.deeper(|inside| inside.bare(&closure.body)),
            _ if counts => self.deeper(|inside| visit::visit_expr(inside, expr)),
            _ => visit::visit_expr(self, expr),
        }
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        self.visit_expr(&expr.expr);
        self.deeper(|inside| expr.arms.iter().for_each(|arm| inside.visit_arm(arm)));
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.visit_expr(guard);
        }
        match &*arm.body {
            Expr::Block(block) => self.visit_block(&block.block),
            body => self.visit_expr(body),
        }
    }

    fn visit_expr_while(&mut self, expr: &'ast syn::ExprWhile) {
        self.visit_expr(&expr.cond);
        self.deeper(|inside| inside.visit_block(&expr.body));
    }

    fn visit_expr_for_loop(&mut self, expr: &'ast syn::ExprForLoop) {
        self.visit_expr(&expr.expr);
        self.deeper(|inside| inside.visit_block(&expr.body));
    }

    fn visit_expr_loop(&mut self, expr: &'ast syn::ExprLoop) {
        self.deeper(|inside| inside.visit_block(&expr.body));
    }

    fn visit_local(&mut self, local: &'ast Local) {
        let Some(init) = &local.init else { return };
        self.visit_expr(&init.expr);
        if let Some((_, otherwise)) = &init.diverge {
            self.bare(otherwise);
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        if let MacroDelimiter::Brace(_) = call.delimiter {
            self.deeper(|inside| {
                if let Ok(Select(arms)) = call.parse_body() {
                    arms.iter().for_each(|arm| inside.select_arm(arm));
                } else if let Ok(body) = call.parse_body_with(Block::parse_within) {
                    body.iter().for_each(|statement| inside.visit_stmt(statement));
                }
            });
        } else if let Ok(arguments) = call.parse_body_with(Arguments::parse_terminated) {
            arguments.iter().for_each(|argument| self.visit_expr(argument));
        }
    }
}

type Arguments = Punctuated<Expr, Token![,]>;

/// The inside of `tokio::select!`.
struct Select(Vec<SelectArm>);

struct SelectArm {
    conditions: Vec<Expr>,
    body: Expr,
}

impl Parse for Select {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(syn::Ident) && input.peek2(Token![;]) {
            input.parse::<syn::Ident>()?;
            input.parse::<Token![;]>()?;
        }
        let mut arms = Vec::new();
        while !input.is_empty() {
            arms.push(input.parse()?);
        }
        Ok(Self(arms))
    }
}

impl Parse for SelectArm {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut conditions = Vec::new();
        if input.parse::<Option<Token![else]>>()?.is_none() {
            Pat::parse_multi_with_leading_vert(input)?;
            input.parse::<Token![=]>()?;
            conditions.push(input.parse()?);
            if input.parse::<Option<Token![,]>>()?.is_some() {
                input.parse::<Token![if]>()?;
                conditions.push(input.parse()?);
            }
        }
        input.parse::<Token![=>]>()?;
        let body = Expr::parse_with_earlier_boundary_rule(input)?;
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { conditions, body })
    }
}
