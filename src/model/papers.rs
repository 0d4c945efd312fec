//! What is kept of a restore for later: for its owner, for programs, and for whoever helps him.

/// The three files, as text. Whoever writes them keeps them from the eyes of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Papers {
    /// For people: what is restored and what is not.
    pub text: String,
    /// The same for programs, with all details.
    pub json: String,
    /// Everything, line by line.
    pub log: String,
}

impl Papers {
    /// Names and contents.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [("report.txt", &self.text), ("report.json", &self.json), ("full.log", &self.log)]
    }
}
