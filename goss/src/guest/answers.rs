//! A guest's answers as a target.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::scripts::UNAVAILABLE;
use super::{Answer, Question, curl, parse};
use crate::resource::{Command, Port, Request};
use crate::target::{
    Algorithm, FileFacts, Known, MountFacts, Output, PackageFacts, Response, Target, Unknown,
    UserFacts,
};

/// What a guest answered. What it was not asked cannot be known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<Question, Answer>);

impl Answers {
    /// Adds the answer to a question; an earlier one is replaced.
    pub fn insert(&mut self, question: Question, answer: Answer) {
        self.0.insert(question, answer);
    }

    /// The answer as it came, if it came.
    fn raw(&self, question: &Question) -> Known<&Answer> {
        self.0.get(question).ok_or_else(|| Unknown::not_here("the guest was not asked"))
    }

    /// The output of a script that did its work.
    fn output(&self, question: &Question) -> Known<&[u8]> {
        let answer = self.raw(question)?;
        let why = || {
            let text = String::from_utf8_lossy(&answer.stderr);
            let said = |line: &&str| !line.trim().is_empty() && !line.starts_with(curl::TRAILER);
            let last = text.lines().rev().find(said);
            last.unwrap_or("no reason is given").trim().to_owned()
        };
        match answer.status {
            Some(0) => Ok(&answer.stdout),
            Some(UNAVAILABLE) => Err(Unknown::NotHere(format!("in the guest {}", why()))),
            Some(_) => Err(Unknown::Failed(why())),
            None => Err(Unknown::failed("the guest did not answer in time")),
        }
    }

    /// The same as a text.
    fn text(&self, question: &Question) -> Known<String> {
        self.output(question).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Target for Answers {
    fn file(&self, path: &str) -> Known<Option<FileFacts>> {
        parse::file(&self.text(&Question::File(path.to_owned()))?)
    }

    fn contents(&self, path: &str) -> Known<Vec<u8>> {
        self.output(&Question::Contents(path.to_owned())).map(<[u8]>::to_vec)
    }

    fn digest(&self, path: &str, algorithm: Algorithm) -> Known<String> {
        parse::digest(&self.text(&Question::Digest(path.to_owned(), algorithm))?)
    }

    fn package(&self, name: &str) -> Known<PackageFacts> {
        parse::package(&self.text(&Question::Package(name.to_owned()))?)
    }

    fn enabled(&self, unit: &str) -> Known<bool> {
        parse::yes(&self.text(&Question::Enabled(unit.to_owned()))?)
    }

    fn running(&self, unit: &str) -> Known<bool> {
        parse::yes(&self.text(&Question::Running(unit.to_owned()))?)
    }

    fn user(&self, name: &str) -> Known<Option<UserFacts>> {
        let passwd = self.text(&Question::Users)?;
        // Groups are asked for only where something is wanted of them.
        let groups = match self.text(&Question::Groups) {
            Err(Unknown::NotHere(_)) => String::new(),
            groups => groups?,
        };
        parse::user(&passwd, &groups, name)
    }

    fn group(&self, name: &str) -> Known<Option<u32>> {
        parse::group(&self.text(&Question::Groups)?, name)
    }

    fn command(&self, command: &Command) -> Known<Output> {
        let answer = self.raw(&Question::Command(command.clone()))?;
        let status = answer.status.ok_or_else(|| {
            Unknown::failed(format!("it took longer than {} ms", command.timeout.as_millis()))
        })?;
        Ok(Output { status, stdout: answer.stdout.clone(), stderr: answer.stderr.clone() })
    }

    fn kernel_param(&self, name: &str) -> Known<String> {
        let text = self.text(&Question::KernelParam(name.to_owned()))?;
        Ok(text.trim().to_owned())
    }

    fn mount(&self, mountpoint: &str) -> Known<Option<MountFacts>> {
        parse::mount(&self.text(&Question::Mounts)?, mountpoint)
    }

    fn usage(&self, mountpoint: &str) -> Known<u64> {
        parse::usage(&self.text(&Question::Usage(mountpoint.to_owned()))?)
    }

    fn port(&self, port: Port) -> Known<Vec<IpAddr>> {
        parse::listening(&self.text(&Question::Sockets)?, port)
    }

    fn http(&self, request: &Request) -> Known<Response> {
        let question = Question::Http(Box::new(request.clone()));
        let body = self.output(&question)?;
        curl::response(body, &self.raw(&question)?.stderr)
    }
}
