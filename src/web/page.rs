//! What the page shows. HTML is written by macros that escape every text, so no text of a disk or a backup becomes more.

use super::text::blocks;
use crate::model::desk::{Desk, Entry, Question, Sheet};
use crate::render::progress::{amounts, phase_name};
use crate::render::screen::head;
use crate::render::text::wrap;
use crate::t;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// How others call this face.
pub(super) const NAME: &str = "the page";

/// What a page of the dialogue is made of.
pub(super) struct Page<'a> {
    pub(super) desk: &'a Desk,
    /// Goes into every form.
    pub(super) token: &'a str,
    pub(super) language: &'a str,
    /// Something to tell first.
    pub(super) remark: Option<&'a str>,
}

/// Grows whenever the page would look different, apart from progress.
pub(super) fn mark(desk: &Desk) -> usize {
    let entries = desk.since(0).iter().filter(|entry| !matches!(entry, Entry::Aside(_))).count();
    entries + usize::from(desk.is_closed())
}

/// The page that asks for the code.
pub(super) fn code(language: &str, remark: Option<&str>, is_taken: bool) -> Markup {
    let body = html! {
        main {
            h1 { "Lifeboat" }
            @if let Some(remark) = remark { p.remark role="alert" { (remark) } }
            p { (t!("Recovery for your FreedomBox. Nothing on any disk has been changed by opening this page.")) }
            form method="post" action="/code" {
                label for="code" { (t!("Code")) }
                p.hint #about {
                    (t!("It stands on the screen and the serial console of the computer that runs Lifeboat, and in the file status.txt on its stick."))
                }
                input #code name="code" type="text" autocomplete="one-time-code" autocapitalize="none"
                    spellcheck="false" required aria-describedby="about" maxlength="32" autofocus;
                button type="submit" { (t!("Go on")) }
            }
            @if is_taken {
                p { (t!("Another browser uses Lifeboat now, or did. The code that stands there now ends its session.")) }
            }
            p.hint {
                (t!("Your browser warned you about this page. Compare the SHA-256 fingerprint of the certificate that it shows with the one beside the code: if they are the same, you are talking to your own box."))
            }
        }
    };
    whole(language, "Lifeboat", None, &body)
}

/// The page of the dialogue, as it stands now.
pub(super) fn dialogue(page: &Page) -> Markup {
    let entries = page.desk.since(0);
    let open = page.desk.open();
    // What was said since the last answer belongs to the question; the rest is history.
    let last = entries.iter().rposition(|entry| matches!(entry, Entry::Answered { .. })).map_or(0, |at| at + 1);
    let (history, present) = entries.split_at(last.min(entries.len()));
    let is_over = page.desk.is_closed();
    let title = match &open {
        Some(sheet) => sheet.question.screen().title.clone(),
        None if is_over => t!("Lifeboat has ended"),
        None => t!("Lifeboat is working"),
    };
    let title = title.as_str();
    let body = html! {
        main data-mark=(mark(page.desk)) {
            h1 { (title) }
            @if let Some(remark) = page.remark { p.remark role="alert" { (remark) } }
            p.remark #offline hidden role="alert" {
                (t!("The connection is lost. Lifeboat goes on by itself; this page comes back when the network does."))
            }
            div.said {
                @for entry in present { @if let Entry::Shown(text) = entry { (blocks(text)) } }
                @if let Some(sheet) = &open { (blocks(&sheet.question.screen().body)) }
            }
            @match &open {
                Some(sheet) => (question(sheet, page.token)),
                None if is_over => p { (t!("This page can be closed.")) },
                None => { section #work aria-label=(t!("Progress")) { (work(page.desk, page.language)) } }
            }
            @if history.iter().any(|entry| !matches!(entry, Entry::Aside(_))) {
                details {
                    summary { (t!("What was said before")) }
                    @for entry in history { (past(entry)) }
                }
            }
            nav aria-label=(t!("Session")) {
                a href="/report.txt" download { (t!("Download the report")) }
                form method="post" action="/leave" {
                    input type="hidden" name="token" value=(page.token);
                    button.quiet type="submit" { (t!("Leave this page")) }
                }
            }
        }
    };
    // Without a script, a page that waits for nobody looks again by itself.
    whole(page.language, title, (open.is_none() && !is_over).then_some(3), &body)
}

fn question(sheet: &Sheet, token: &str) -> Markup {
    let screen = sheet.question.screen();
    let (action, kind, go) = match &sheet.question {
        Question::File(_) => ("/upload", "multipart/form-data", t!("Send the file")),
        Question::Taker(..) => ("/download", URL_ENCODED, t!("Take the file along")),
        _ => ("/answer", URL_ENCODED, t!("Go on")),
    };
    html! {
        form.question method="post" action=(action) enctype=(kind) data-id=(screen.id) {
            // What is checked first has to come before a file.
            input type="hidden" name="token" value=(token);
            input type="hidden" name="number" value=(sheet.number);
            @match &sheet.question {
                Question::Choice(choice) => {
                    fieldset {
                        legend { (screen.text) }
                        @for (index, option) in choice.options.iter().enumerate() {
                            label.option {
                                input type="radio" name="answer" value=(index) required
                                    checked[choice.default == Some(index)];
                                span { (option.text) }
                            }
                        }
                    }
                }
                Question::Read(_) => {
                    p { (screen.text) }
                    input type="hidden" name="answer" value="read";
                }
                Question::Words(_) => {
                    label for="answer" { (screen.text) }
                    input #answer name="answer" type="text" autocomplete="off" autocapitalize="none"
                        spellcheck="false" maxlength="4096" required;
                }
                Question::Secret(words) => {
                    label for="answer" { (screen.text) }
                    input #answer name="answer" type=(if words.visible { "text" } else { "password" })
                        autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="4096" required;
                }
                Question::File(_) => {
                    label for="file" { (screen.text) }
                    input #file name="file" type="file" required accept=".gz,.tgz,.zst,.tzst,.tar,application/gzip";
                }
                Question::Taker(_, name) => {
                    p { (screen.text) }
                    p.hint { (t!("The file is called {name}.", name = name)) " " a href="/" { (t!("When it has arrived, look again.")) } }
                }
            }
            @if !screen.next.is_empty() { p.hint { (t!("Next: {what}", what = screen.next)) } }
            @if screen.untouched { p.hint { (t!("Nothing has been changed so far.")) } }
            div.buttons {
                // The first one is what Enter means.
                button type="submit" name="go" value="1" { (go) }
                @if screen.back { (way_out("back", &t!("go back"))) }
                (way_out("stop", &t!("stop here")))
            }
        }
    }
}

const URL_ENCODED: &str = "application/x-www-form-urlencoded";

/// A button that leaves the question without answering it, also where the answer would be a file.
fn way_out(name: &str, text: &str) -> Markup {
    html! {
        button.quiet type="submit" name=(name) value="1" formnovalidate formaction="/answer"
            formenctype=(URL_ENCODED) { (text) }
    }
}

/// What is being done now.
pub(super) fn work(desk: &Desk, _language: &str) -> Markup {
    let Some(work) = desk.work() else {
        return html! { p role="status" { (t!("Please wait.")) } };
    };
    html! {
        h2 { span role="status" { (phase_name(work.phase)) } }
        @if let Some(part) = work.percent_done {
            progress max="100" value=(part) aria-label=(phase_name(work.phase)) { (part) " %" }
        }
        p { (amounts(&work)) }
    }
}

fn past(entry: &Entry) -> Markup {
    match entry {
        Entry::Shown(text) => blocks(text),
        Entry::Asked(_) | Entry::Aside(_) => html! {},
        Entry::Answered { sheet, answer, by } => html! {
            p.past { (sheet.question.screen().text) " " strong { (answer) } " (" (by) ")" }
        },
    }
}

/// Everything that was said, for people to keep or to send to somebody who helps.
pub(super) fn report(desk: &Desk) -> String {
    let mut text = String::new();
    for entry in desk.since(0) {
        match entry {
            Entry::Shown(shown) => text += &shown,
            Entry::Asked(sheet) => {
                text += &head(sheet.question.screen());
                if let Question::Choice(choice) = &sheet.question {
                    for (number, option) in (1..).zip(&choice.options) {
                        text += &wrap("  ", &format!("{number}) {}", option.text));
                    }
                }
            }
            Entry::Answered { answer, by, .. } => text += &format!("> {answer} ({by})\n"),
            Entry::Aside(_) => {}
        }
    }
    text
}

fn whole(language: &str, title: &str, again: Option<u32>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(language) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) @if title != "Lifeboat" { " – Lifeboat" } }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
                @if let Some(seconds) = again {
                    noscript { meta http-equiv="refresh" content=(seconds); }
                }
            }
            body {
                header { p.name { (PreEscaped(include_str!("icon.svg"))) "Lifeboat" } }
                (body)
            }
        }
    }
}
