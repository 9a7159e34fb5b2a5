//! A walk over the tree that may change it, in the order of the text.

use super::ast::*;

/// Each method's default goes on to what is inside.
pub(super) trait Visitor {
    fn block(&mut self, block: &mut Block) {
        walk_block(self, block);
    }
    fn statement(&mut self, statement: &mut Stmt) {
        walk_statement(self, statement);
    }
    fn expression(&mut self, expr: &mut Expr) {
        walk_expression(self, expr);
    }
    fn ty(&mut self, ty: &mut Type) {
        walk_type(self, ty);
    }
    fn type_or_expression(&mut self, operand: &mut TypeOrExpr) {
        match operand {
            TypeOrExpr::Type(ty) => self.ty(ty),
            TypeOrExpr::Expr(expr) => self.expression(expr),
        }
    }
    fn branches(&mut self, branches: &mut If) {
        self.expression(&mut branches.condition);
        self.block(&mut branches.then);
        if let Some(otherwise) = &mut branches.otherwise {
            self.block(otherwise);
        }
    }
}

pub(super) fn walk_block<V: Visitor + ?Sized>(visitor: &mut V, block: &mut Block) {
    for statement in &mut block.statements {
        visitor.statement(statement);
    }
    if let Some(value) = &mut block.value {
        visitor.expression(value);
    }
}

pub(super) fn walk_statement<V: Visitor + ?Sized>(visitor: &mut V, statement: &mut Stmt) {
    match &mut statement.kind {
        StmtKind::Expr(expr) | StmtKind::Discard(expr) | StmtKind::Return(Some(expr)) => {
            visitor.expression(expr)
        }
        StmtKind::Let { ty, value, .. } => {
            if let Some(ty) = ty {
                visitor.ty(ty);
            }
            if let Some(value) = value {
                visitor.expression(value);
            }
        }
        StmtKind::Assign { target, value, .. } => {
            // As it runs: the key and the old value belong to the target, but the value is there first.
            visitor.expression(value);
            visitor.expression(target);
        }
        StmtKind::If(branches) => visitor.branches(branches),
        StmtKind::While { condition, body } => {
            visitor.expression(condition);
            visitor.block(body);
        }
        StmtKind::Unroll { count, body } => {
            visitor.expression(count);
            visitor.block(body);
        }
        StmtKind::ForMap { body, .. } => visitor.block(body),
        StmtKind::ForRange { from, to, body, .. } => {
            visitor.expression(from);
            visitor.expression(to);
            visitor.block(body);
        }
        StmtKind::Break | StmtKind::Continue | StmtKind::Return(None) => {}
        StmtKind::Block(block) => visitor.block(block),
    }
}

pub(super) fn walk_expression<V: Visitor + ?Sized>(visitor: &mut V, expr: &mut Expr) {
    match &mut expr.kind {
        ExprKind::Integer(_)
        | ExprKind::String(_)
        | ExprKind::Bool(_)
        | ExprKind::Positional(..)
        | ExprKind::PositionalCount(_)
        | ExprKind::Variable(_)
        | ExprKind::Map { key: None, .. }
        | ExprKind::Name(_) => {}
        ExprKind::Call { args, .. } | ExprKind::Tuple(args) => {
            for arg in args {
                visitor.expression(arg);
            }
        }
        ExprKind::SizeOf(operand) | ExprKind::OffsetOf(operand, _) | ExprKind::TypeInfo(operand) => {
            visitor.type_or_expression(operand);
        }
        ExprKind::ContainerOf(pointer, ty, _) => {
            visitor.expression(pointer);
            visitor.ty(ty);
        }
        ExprKind::Map { key: Some(inner), .. }
        | ExprKind::Comptime(inner)
        | ExprKind::Unary(_, inner)
        | ExprKind::Step { target: inner, .. }
        | ExprKind::Field(inner, _)
        | ExprKind::TupleField(inner, _) => visitor.expression(inner),
        ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
            visitor.expression(left);
            visitor.expression(right);
        }
        ExprKind::Ternary(condition, then, otherwise) => {
            visitor.expression(condition);
            if let Some(then) = then {
                visitor.expression(then);
            }
            visitor.expression(otherwise);
        }
        ExprKind::Cast(ty, value) => {
            visitor.ty(ty);
            visitor.expression(value);
        }
        ExprKind::Record(fields) => {
            for (_, value) in fields {
                visitor.expression(value);
            }
        }
        ExprKind::Block(block) => visitor.block(block),
        ExprKind::If(branches) => visitor.branches(branches),
    }
}

pub(super) fn walk_type<V: Visitor + ?Sized>(visitor: &mut V, ty: &mut Type) {
    match &mut ty.kind {
        TypeKind::Pointer(inner) | TypeKind::Array(inner, _) => visitor.ty(inner),
        TypeKind::Tuple(types) => {
            for ty in types {
                visitor.ty(ty);
            }
        }
        TypeKind::TypeOf(operand) => visitor.type_or_expression(operand),
        _ => {}
    }
}
