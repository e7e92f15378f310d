//! Users and groups of a tree, as its own `/etc/passwd` and `/etc/group` have them. This machine's
//! accounts are never asked.

use nodekiln_words::{Failure, Result};

use super::root::Root;

impl Root {
    /// The numeric id of a user, given by name or number.
    ///
    /// # Errors
    /// When the tree has no such user.
    pub fn uid(&self, user: &str) -> Result<u32> {
        self.id("/etc/passwd", user, "user")
    }

    /// The numeric id of a group, given by name or number.
    ///
    /// # Errors
    /// When the tree has no such group.
    pub fn gid(&self, group: &str) -> Result<u32> {
        self.id("/etc/group", group, "group")
    }

    /// A user's home directory, where the tree has such a user.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn home(&self, user: &str) -> Result<Option<String>> {
        let text = self.accounts("/etc/passwd")?;
        Ok(field(&text, user, 5).map(str::to_owned))
    }

    fn id(&self, file: &str, name: &str, what: &str) -> Result<u32> {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        if name == "root" {
            return Ok(0); // also in a tree that has no accounts yet
        }
        let text = self.accounts(file)?;
        field(&text, name, 2).and_then(|id| id.parse().ok()).ok_or_else(|| {
            Failure::input(format!("the tree has no {what} `{name}`")).with_help(format!(
                "name one that a package or `users` brings, or write the number; {file} was read"
            ))
        })
    }

    fn accounts(&self, file: &str) -> Result<String> {
        let bytes = self.read_file(file)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A field, counted from 0, of the line of `name` (passwd(5), group(5)).
fn field<'a>(text: &'a str, name: &str, index: usize) -> Option<&'a str> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        (fields.next()? == name).then(|| fields.nth(index.checked_sub(1)?))?
    })
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_those_of_the_named_account() {
        let text = "root:x:0:0:root:/root:/bin/bash\nroo:x:7:8::/home/roo:/bin/sh\nbroken\n";
        assert_eq!(field(text, "roo", 2), Some("7"));
        assert_eq!(field(text, "roo", 5), Some("/home/roo"));
        assert_eq!(field(text, "broken", 2), None);
        assert_eq!(field(text, "absent", 2), None);
    }
}
