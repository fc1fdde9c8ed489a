//! As much of `Cargo.toml` as the rules need: a crate's name and what it depends on.

/// A crate's manifest.
pub(crate) struct Manifest {
    /// The folder it lies in, from the root; empty for the root.
    pub(crate) folder: String,
    /// The crate's name.
    pub(crate) name: String,
    /// Names of what it depends on.
    pub(crate) dependencies: Vec<String>,
    /// Names of what only its tests and benchmarks, or its build, depend on.
    pub(crate) dev_dependencies: Vec<String>,
}

impl Manifest {
    /// Reads a manifest; `None` if it describes no package.
    pub(crate) fn parse(path: &str, text: &str) -> Option<Manifest> {
        let folder = path.trim_end_matches("Cargo.toml").trim_end_matches('/').to_string();
        let mut manifest = Manifest { folder, name: String::new(), dependencies: Vec::new(), dev_dependencies: Vec::new() };
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix('[') {
                section = header.split(']').next().unwrap_or_default();
                // `[dependencies.timely]` names its dependency in the header.
                if let Some((table, name)) = section.rsplit_once('.')
                    && let Some(list) = manifest.list(table)
                {
                    list.push(name.trim_matches('"').to_string());
                    section = "";
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
            let key = key.trim();
            if section == "package" && key == "name" {
                manifest.name = value.trim().trim_matches('"').to_string();
            }
            if let Some(list) = manifest.list(section) {
                list.push(renamed(value).unwrap_or_else(|| key.split('.').next().unwrap_or(key).trim_matches('"').to_string()));
            }
        }
        (!manifest.name.is_empty()).then_some(manifest)
    }

    fn list(&mut self, section: &str) -> Option<&mut Vec<String>> {
        match section.rsplit('.').next().unwrap_or(section) {
            _ if section.starts_with("workspace") => None,
            "dependencies" => Some(&mut self.dependencies),
            "dev-dependencies" | "build-dependencies" => Some(&mut self.dev_dependencies),
            _ => None,
        }
    }
}

/// The crate behind `{ package = "..." }`.
fn renamed(value: &str) -> Option<String> {
    let (_, rest) = value.split_once("package")?;
    let (_, rest) = rest.split_once('"')?;
    Some(rest.split('"').next()?.to_string())
}

#[test]
fn dependencies_are_found_in_all_their_spellings() {
    let text = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\nc = \"1\" # why\n# d = \"1\"\n\
                e = { package = \"f\", version = \"1\" }\n[dependencies.g]\nversion = \"1\"\n\
                [target.'cfg(unix)'.dev-dependencies]\nh = \"1\"\n[workspace.dependencies]\ni = \"1\"\n";
    let manifest = Manifest::parse("x/Cargo.toml", text).expect("a package");
    assert_eq!((manifest.folder.as_str(), manifest.name.as_str()), ("x", "a"));
    assert_eq!(manifest.dependencies, ["b", "c", "f", "g"]);
    assert_eq!(manifest.dev_dependencies, ["h"]);
}
