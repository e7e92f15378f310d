//! The configuration of OpenSSH's server as it takes effect: included files in their places, the first value of
//! a keyword, and what `Match` blocks say instead of it (sshd_config(5); `servconf.c` of OpenSSH).

use nodekiln_words::Result;

use super::{Tree, fits};

/// Most files that include one another (OpenSSH, `SERVCONF_MAX_DEPTH`).
const MOST_DEPTH: usize = 16;

/// Where names of included files that have no folder are looked for.
const FOLDER: &str = "/etc/ssh";

/// One line that sets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its keyword in small letters.
    pub keyword: String,
    /// Its arguments, without quotes.
    pub arguments: Vec<String>,
    /// The file that it is in.
    pub path: String,
    /// Its line there, from 1.
    pub line: usize,
    /// The criteria of the `Match` block that it is in; nothing outside of one.
    pub condition: Option<String>,
}

/// What the server's files say, in the order in which it reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The settings.
    pub settings: Vec<Setting>,
    /// What makes the server refuse to start, with the place.
    pub refused: Vec<String>,
    /// What its first file includes for everybody: a pattern, and how many settings are read before.
    included: Vec<(String, usize)>,
}

impl Setting {
    /// `path:line`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }

    /// The first argument in small letters: that of a keyword with one.
    #[must_use]
    pub fn value(&self) -> String {
        self.arguments.first().map(|value| value.to_lowercase()).unwrap_or_default()
    }

    /// Whether it is in a block that is for everybody.
    fn is_for_all(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.eq_ignore_ascii_case("all"))
    }
}

impl Configuration {
    /// The configuration that begins in the file at `path`; nothing where there is none.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub fn read(tree: &Tree, path: &str) -> Result<Option<Self>> {
        let mut configuration = Self::default();
        let there = configuration.take(tree, path, None, 0)?;
        Ok(there.then_some(configuration))
    }

    /// Puts `arguments` of `keyword` before all others, as an option of the command line does.
    pub fn precede(&mut self, keyword: &str, argument: &str, path: &str, line: usize) {
        let setting = Setting {
            keyword: keyword.to_lowercase(),
            arguments: vec![argument.to_owned()],
            path: path.to_owned(),
            line,
            condition: None,
        };
        self.settings.insert(0, setting);
        self.included.iter_mut().for_each(|(_, before)| *before += 1);
    }

    /// Whether the server reads `setting` before it would read the file at `path`; nothing where it would not read that
    /// at all.
    #[must_use]
    pub fn precedes(&self, setting: &Setting, path: &str) -> Option<bool> {
        let (_, before) = self.included.iter().find(|(pattern, _)| fits(pattern, path))?;
        let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let earlier = self.settings.iter().take(*before).any(|one| one == setting);
        let beside = folder(&setting.path) == folder(path) && setting.path.as_str() < path;
        Some(earlier || beside)
    }

    /// What counts for a connection that no `Match` block names: the first of these keywords, of which the
    /// server knows each as another name of the same.
    #[must_use]
    pub fn first(&self, keywords: &[&str]) -> Option<&Setting> {
        let mut own = self.settings.iter().filter(|one| keywords.contains(&one.keyword.as_str()));
        own.find(|one| one.condition.is_none() || one.is_for_all())
    }

    /// What `Match` blocks say instead, in their order; those behind one for everybody are never reached.
    pub fn instead(&self, keywords: &[&str]) -> impl Iterator<Item = &Setting> {
        let own = self.settings.iter().filter(move |one| keywords.contains(&one.keyword.as_str()));
        let mut settled = false;
        own.filter(|one| one.condition.is_some()).take_while(move |one| {
            let reached = !settled;
            settled |= one.is_for_all();
            reached
        })
    }

    fn take(
        &mut self,
        tree: &Tree,
        path: &str,
        condition: Option<&str>,
        depth: usize,
    ) -> Result<bool> {
        let Some(text) = tree.text(path)? else { return Ok(false) };
        // A block that an included file begins ends with that file.
        let mut condition = condition.map(str::to_owned);
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
            let Some((keyword, arguments)) = split(text) else { continue };
            match keyword.as_str() {
                "match" => condition = Some(arguments.join(" ")),
                "include" if depth + 1 >= MOST_DEPTH => {
                    self.refused.push(format!("{path}:{line}: too many files include one another"));
                }
                "include" => {
                    for pattern in arguments {
                        let pattern = if pattern.starts_with('/') {
                            pattern
                        } else {
                            format!("{FOLDER}/{pattern}")
                        };
                        if depth == 0 && condition.is_none() {
                            self.included.push((pattern.clone(), self.settings.len()));
                        }
                        for included in tree.glob(&pattern) {
                            self.take(tree, &included, condition.as_deref(), depth + 1)?;
                        }
                    }
                }
                _ if arguments.is_empty() => {
                    self.refused.push(format!("{path}:{line}: {keyword} has no value"));
                }
                _ => self.settings.push(Setting {
                    keyword,
                    arguments,
                    path: path.to_owned(),
                    line,
                    condition: condition.clone(),
                }),
            }
        }
        Ok(true)
    }
}

/// The keyword in small letters and the arguments of a line; nothing where it is empty or a comment.
fn split(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|sign: char| sign.is_whitespace() || sign == '=').unwrap_or(line.len());
    let rest = line[end..].trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut arguments = Vec::new();
    let mut signs = rest.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            _ if sign.is_whitespace() => {}
            // From OpenSSH 8.5 on, a comment may follow the arguments.
            '#' => break,
            '"' => arguments.push(signs.by_ref().take_while(|sign| *sign != '"').collect()),
            _ => {
                let mut word = String::from(sign);
                while let Some(next) = signs.next_if(|next| !next.is_whitespace()) {
                    word.push(next);
                }
                arguments.push(word);
            }
        }
    }
    Some((line[..end].to_lowercase(), arguments))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree<'static> {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.write(&format!("/etc/ssh/{path}"), 0o644, text);
        }
        tree
    }

    fn read(files: &[(&str, &str)]) -> Configuration {
        Configuration::read(&tree(files), "/etc/ssh/sshd_config").unwrap().unwrap()
    }

    #[test]
    fn a_file_that_is_not_there_yet_has_its_place_among_the_settings() {
        let drop_in = "/etc/ssh/sshd_config.d/50-cloud-init.conf";
        let precedes = |files: &[(&str, &str)]| {
            let found = read(files);
            let setting = found.first(&["passwordauthentication"]).unwrap().clone();
            found.precedes(&setting, drop_in)
        };
        let (yes, include) = ("PasswordAuthentication yes\n", "Include sshd_config.d/*.conf\n");
        assert_eq!(precedes(&[("sshd_config", &format!("{include}{yes}"))]), Some(false));
        assert_eq!(precedes(&[("sshd_config", &format!("{yes}{include}"))]), Some(true));
        let main = ("sshd_config", include);
        assert_eq!(precedes(&[main, ("sshd_config.d/40-a.conf", yes)]), Some(true));
        assert_eq!(precedes(&[main, ("sshd_config.d/60-a.conf", yes)]), Some(false));
        assert_eq!(precedes(&[("sshd_config", yes)]), None);
        let mut found = read(&[("sshd_config", &format!("{include}{yes}"))]);
        found.precede("PasswordAuthentication", "yes", "/etc/default/ssh", 1);
        let setting = found.first(&["passwordauthentication"]).unwrap().clone();
        assert_eq!(found.precedes(&setting, drop_in), Some(true));
    }

    #[test]
    fn the_first_value_counts_and_included_files_stand_where_they_are_named() {
        let before = "Include sshd_config.d/*.conf\nPasswordAuthentication no\n";
        let after = "PasswordAuthentication no\nInclude /etc/ssh/sshd_config.d/*.conf\n";
        let drop_in = ("sshd_config.d/50-cloud-init.conf", "passwordauthentication=yes\n");
        let winner = |main: &str| {
            let found = read(&[("sshd_config", main), drop_in]);
            found.first(&["passwordauthentication"]).unwrap().clone()
        };
        assert_eq!(winner(before).place(), "/etc/ssh/sshd_config.d/50-cloud-init.conf:1");
        assert_eq!(winner(before).value(), "yes");
        assert_eq!(winner(after).place(), "/etc/ssh/sshd_config:1");
    }

    #[test]
    fn files_are_included_in_the_order_of_their_names() {
        let found = read(&[
            ("sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n"),
            ("sshd_config.d/50-b.conf", "X11Forwarding no\n"),
            ("sshd_config.d/05-a.conf", "X11Forwarding yes\n"),
            ("sshd_config.d/01-a.conf.disabled", "X11Forwarding no\n"),
        ]);
        assert_eq!(found.first(&["x11forwarding"]).unwrap().value(), "yes");
    }

    #[test]
    fn a_block_ends_with_the_next_and_with_the_file_that_began_it() {
        let found = read(&[
            ("sshd_config", "Include a.conf\nUsePAM yes\nMatch User b\nX11Forwarding yes\n"),
            ("a.conf", "Match Group admin\n PasswordAuthentication yes\n"),
        ]);
        assert_eq!(found.first(&["usepam"]).unwrap().value(), "yes");
        assert!(found.first(&["passwordauthentication"]).is_none());
        let told: Vec<_> = found.instead(&["passwordauthentication"]).collect();
        assert_eq!(told[0].condition.as_deref(), Some("Group admin"));
        assert_eq!(found.instead(&["x11forwarding"]).count(), 1);
    }

    #[test]
    fn an_include_in_a_block_is_for_the_block_alone() {
        let found = read(&[
            ("sshd_config", "Match Address 10.0.0.0/8\nInclude a.conf\n"),
            ("a.conf", "PermitRootLogin yes\n"),
        ]);
        assert!(found.first(&["permitrootlogin"]).is_none());
        assert_eq!(found.instead(&["permitrootlogin"]).count(), 1);
    }

    #[test]
    fn a_block_for_everybody_settles_it_for_those_behind_it() {
        let text = "Match all\nPermitRootLogin no\nMatch User a\nPermitRootLogin yes\n";
        let found = read(&[("sshd_config", text)]);
        assert_eq!(found.first(&["permitrootlogin"]).unwrap().value(), "no");
        let values: Vec<_> = found.instead(&["permitrootlogin"]).map(Setting::value).collect();
        assert_eq!(values, ["no"]);
    }

    #[test]
    fn files_that_include_themselves_and_keywords_without_a_value_are_refused() {
        let found = read(&[("sshd_config", "Include sshd_config\nPermitRootLogin\n")]);
        assert!(found.refused.iter().any(|text| text.contains("include one another")));
        assert!(found.refused.iter().any(|text| text.contains(":2: permitrootlogin")));
    }

    #[test]
    fn lines_are_split_as_the_server_does() {
        let words = |line| split(line).unwrap().1;
        assert_eq!(words("AcceptEnv LANG  LC_* # all"), ["LANG", "LC_*"]);
        assert_eq!(words("Banner \"/etc/a b\""), ["/etc/a b"]);
        assert_eq!(words("PermitRootLogin = no"), ["no"]);
        assert_eq!(words("Ciphers=a,b"), ["a,b"]);
        assert_eq!(split("  # Port 22"), None);
    }

    #[test]
    fn an_option_of_the_command_line_is_read_first() {
        let mut found = read(&[("sshd_config", "PasswordAuthentication no\n")]);
        found.precede("PasswordAuthentication", "yes", "/etc/default/ssh", 3);
        assert_eq!(found.first(&["passwordauthentication"]).unwrap().place(), "/etc/default/ssh:3");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([A-Za-z#=\" \t*/.]{0,20}\n){0,8}") {
            read(&[("sshd_config", &text)]);
        }
    }
}
