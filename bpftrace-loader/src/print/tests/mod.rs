//! Tests of printing as a whole: tables of layouts and bytes with their text and JSON.
