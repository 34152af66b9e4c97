//! A position in the text: tokens from it, raw text from it, and the comments passed on the way.

use crate::lexer::{self, Token};
use crate::source::{SourceId, Span};

pub(super) struct Cursor<'a> {
    source: SourceId,
    text: &'a str,
    /// End of the last token or raw text taken.
    pos: usize,
    peeked: Option<Token>,
    comments: Vec<Span>,
}

/// A position to come back to.
pub(super) struct Checkpoint {
    pos: usize,
    n_comments: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(source: SourceId, text: &'a str) -> Self {
        Self {
            source,
            text,
            pos: 0,
            peeked: None,
            comments: Vec::new(),
        }
    }

    /// Goes to a position without looking at what is before it.
    pub(super) fn start_at(&mut self, pos: usize) {
        self.pos = pos;
        self.peeked = None;
    }

    pub(super) fn source(&self) -> SourceId {
        self.source
    }

    /// The next token, which stays there.
    pub(super) fn peek(&mut self) -> Token {
        match self.peeked {
            Some(token) => token,
            None => *self.peeked.insert(lexer::token_at(self.text, self.pos)),
        }
    }

    /// The token after a given one.
    pub(super) fn after(&self, token: Token) -> Token {
        lexer::token_at(self.text, token.end)
    }

    /// Takes the next token.
    pub(super) fn bump(&mut self) -> Token {
        let token = self.peek();
        self.move_to(token.start);
        self.pos = token.end;
        token
    }

    /// Moves to the next token without taking it.
    pub(super) fn skip_layout(&mut self) -> usize {
        let start = self.peek().start;
        self.move_to(start);
        start
    }

    /// Passes layout up to `start`, noting its comments.
    fn move_to(&mut self, start: usize) {
        for (from, to) in lexer::comments(&self.text[self.pos..start]) {
            self.comments
                .push(self.range(self.pos + from, self.pos + to));
        }
        self.pos = start;
        self.peeked = None;
    }

    /// The text from here on, layout included.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    /// Takes raw text.
    pub(super) fn take(&mut self, len: usize) -> &'a str {
        let taken = &self.text[self.pos..self.pos + len];
        self.pos += len;
        self.peeked = None;
        taken
    }

    /// Leaves the rest of the text unread.
    pub(super) fn go_to_end(&mut self) {
        self.pos = self.text.len();
        self.peeked = None;
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    pub(super) fn text(&self, token: Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn range(&self, start: usize, end: usize) -> Span {
        Span::new(self.source, start as u32, end as u32)
    }

    pub(super) fn span(&self, token: Token) -> Span {
        self.range(token.start, token.end)
    }

    /// The empty span at the current position.
    pub(super) fn here(&self) -> Span {
        self.range(self.pos, self.pos)
    }

    /// From an offset to the end of what has been taken.
    pub(super) fn since(&self, start: usize) -> Span {
        self.range(start.min(self.pos), self.pos)
    }

    /// The first character of a token.
    pub(super) fn first_character(&self, token: Token) -> Span {
        let len = self.text[token.start..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        self.range(token.start, token.start + len)
    }

    /// A number with dots and letters after it.
    pub(super) fn number_span(&self, token: Token) -> Span {
        let len = self.text[token.start..]
            .bytes()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'.')
            .count();
        self.range(token.start, token.start + len)
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            pos: self.pos,
            n_comments: self.comments.len(),
        }
    }

    pub(super) fn rewind(&mut self, checkpoint: Checkpoint) {
        self.pos = checkpoint.pos;
        self.peeked = None;
        self.comments.truncate(checkpoint.n_comments);
    }

    /// Forgets the comments before `end` that have been passed since a checkpoint, because they belong to raw text.
    pub(super) fn forget_comments(&mut self, since: &Checkpoint, end: usize) {
        let kept = self.comments.split_off(since.n_comments);
        self.comments.extend(
            kept.into_iter()
                .filter(|comment| comment.start as usize >= end),
        );
    }

    pub(super) fn take_comments(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.comments)
    }
}
