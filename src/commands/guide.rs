//! `lifeboat guide`: the dialogue, and who takes part in it.

use crate::cli::GuideArgs;
use crate::failure::Failure;
use crate::guide;
use crate::model::desk::{Asking, Desk};
use crate::model::ending::Ending;
use crate::model::progress::{Event, Progress};
use crate::model::question::{Answer, Choice, Offer, Prompter, Screen};
use crate::render::answers::Answers;
use crate::render::{console, prompt};
use crate::sys::echo;
use crate::sys::host::Host;
use crate::t;
use crate::web;
use std::io::{self, BufReader, IsTerminal};
use std::sync::Arc;

/// `lifeboat guide`.
pub fn guide(host: &Host, args: &GuideArgs, plain: bool, progress: &dyn Progress) -> Result<Ending, Failure> {
    let GuideArgs { image, root, report, answers, web, .. } = args;
    let report = report.as_deref();
    match answers {
        _ if *web => shared(host, args, progress),
        None => guide::run(host, image, root, report, prompt::prompter(plain).as_mut(), progress),
        Some(file) => guide::run(host, image, root, report, &mut Answers::read(file)?, progress),
    }
}

/// The dialogue on the page, and on the terminal that it was started on.
fn shared(host: &Host, args: &GuideArgs, progress: &dyn Progress) -> Result<Ending, Failure> {
    let desk = Desk::new();
    let failed = |error: io::Error| {
        let sentence = format!("talking to the terminal: {error}");
        Failure::untouched(Ending::Failed, sentence, "start the guide again")
    };
    let options = web::Options { listen: args.listen, name: args.name.clone(), status: args.status.clone() };
    let page = web::open(&desk, &options)?;
    let is_terminal = io::stdin().is_terminal();
    let terminal = console::Console {
        name: "the console".to_owned(),
        input: Some(Box::new(BufReader::new(io::stdin()))),
        output: console::standard(),
        echo: is_terminal.then(|| -> Box<dyn Fn(bool) + Send> { Box::new(|on| drop(echo::set(io::stdin(), on))) }),
    };
    let terminal = console::attach(&desk, terminal).map_err(failed)?;
    let mut asking = Asking(Arc::clone(&desk));
    let both = Both(progress, desk.as_ref());
    let ended = loop {
        let ended = guide::run(host, &args.image, &args.root, args.report.as_deref(), &mut asking, &both);
        // Whoever sits in front of the computer sees what comes next there.
        if !page.is_used() {
            break ended;
        }
        match what_next(&mut asking, args.after.is_some()).map_err(failed)? {
            Next::Again => {}
            next => {
                if let Some(file) = &args.after {
                    std::fs::write(file, format!("{}\n", next.word())).map_err(failed)?;
                }
                break ended;
            }
        }
    };
    desk.close();
    page.farewell();
    let _ = terminal.join();
    ended
}

/// What happens after the dialogue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Again,
    PowerOff,
    Restart,
    End,
}

impl Next {
    fn word(self) -> &'static str {
        match self {
            Next::Again => "again",
            Next::PowerOff => "power-off",
            Next::Restart => "restart",
            Next::End => "end",
        }
    }

    fn text(self) -> String {
        match self {
            Next::Again => t!("begin again"),
            Next::PowerOff => t!("switch the computer off; then take out the medium that it was started from"),
            Next::Restart => t!("restart the computer; take out the medium before it starts again"),
            Next::End => t!("end this page, and go on at the computer itself"),
        }
    }
}

fn what_next(prompter: &mut dyn Prompter, is_live: bool) -> io::Result<Next> {
    let all = [Next::Again, Next::PowerOff, Next::Restart, Next::End];
    let offered: Vec<Next> =
        all.into_iter().filter(|next| is_live || matches!(next, Next::Again | Next::End)).collect();
    let options: Vec<Offer> = offered.iter().map(|next| Offer::new(next.text(), next.word())).collect();
    let screen =
        Screen { untouched: false, ..Screen::new("ended", t!("The guide has ended"), t!("What next?")).first() };
    Ok(match prompter.choose(&Choice { screen, options, default: None })? {
        Answer::Given(index) => offered.get(index).copied().unwrap_or(Next::End),
        Answer::Back | Answer::Stop => Next::End,
    })
}

/// Two that watch.
struct Both<'a>(&'a dyn Progress, &'a dyn Progress);

impl Progress for Both<'_> {
    fn event(&self, event: Event) {
        self.0.event(event.clone());
        self.1.event(event);
    }
}
