//! Where a remote store is: its address, and the client for it.
//!
//! Credentials come from the environment that each cloud's own programs read. They are never part of
//! an address, which is printed, logged and kept in shell histories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(not(all(feature = "aws", feature = "azure", feature = "gcp")))]
use nodekiln_words::Class;
use nodekiln_words::{Failure, Result};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, prefix::PrefixStore};
use url::Url;

#[cfg(feature = "cloud")]
use super::trouble::reason;

/// Kinds of addresses, for messages.
const SCHEMES: &str =
    "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER";

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket { cloud: Cloud, bucket: String, prefix: String },
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    Aws,
    Azure,
    Gcp,
}

/// How often a request is repeated, and how long answers may take.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// For the first request: what is wrong from the start is told at once.
    Little,
    /// For all others.
    Much,
}

impl std::str::FromStr for Place {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |why: &str| Failure::input(why).with_help(format!("name a remote store as {SCHEMES}"));
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) else {
            // Not repeated: what was meant may be a key.
            return Err(wrong("the address of the remote store has no scheme"));
        };
        let cloud = match scheme {
            "s3" => Some(Cloud::Aws),
            "gs" => Some(Cloud::Gcp),
            "az" => Some(Cloud::Azure),
            "file" => None,
            other => {
                return Err(wrong(&format!("there is no kind of remote store called `{other}`")));
            }
        };
        let url = Url::parse(text)
            .map_err(|error| wrong("the address of the remote store is none").with_source(error))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            let message = "the address of the remote store holds credentials or a query";
            return Err(Failure::input(message).with_help(
                "leave them out: addresses are printed and logged, credentials come from the \
                 environment (docs/remote-store.md)",
            ));
        }
        let Some(cloud) = cloud else {
            let folder =
                url.to_file_path().map_err(|()| wrong("the folder's path is not absolute"))?;
            return Ok(Self::Folder(folder));
        };
        let bucket = url.host_str().unwrap_or_default().to_owned();
        if bucket.is_empty() || url.port().is_some() {
            return Err(wrong("the address of the remote store names no bucket"));
        }
        Ok(Self::Bucket { cloud, bucket, prefix: url.path().trim_matches('/').to_owned() })
    }
}

impl Place {
    /// A client for it.
    ///
    /// # Errors
    /// Where credentials are missing or incomplete, the folder is missing, or this program was built
    /// without the cloud's client.
    pub(super) fn open(
        &self,
        patience: Patience,
        ca_file: Option<&Path>,
    ) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Self::Folder(folder) => open_folder(folder),
            Self::Bucket { cloud, bucket, prefix } => {
                let objects = cloud.open(bucket, patience, ca_file)?;
                match prefix.as_str() {
                    "" => Ok(objects),
                    prefix => Ok(Arc::new(PrefixStore::new(objects, prefix))),
                }
            }
        }
    }

    /// What to do where the place itself cannot be used.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Folder(_) => "make the folder, or mount what should be there",
            Self::Bucket { cloud, .. } => cloud.remedy(),
        }
    }
}

/// A folder is not made here: it may be the place of something that is not mounted.
fn open_folder(folder: &Path) -> Result<Arc<dyn ObjectStore>> {
    let unfit = |error: Option<object_store::Error>| {
        let message = format!("the remote store {} is no folder", folder.display());
        let failure =
            Failure::input(message).with_help("make the folder, or mount what should be there");
        match error {
            Some(error) => failure.with_source(error),
            None => failure,
        }
    };
    if !folder.is_dir() {
        return Err(unfit(None));
    }
    let objects = LocalFileSystem::new_with_prefix(folder).map_err(|error| unfit(Some(error)))?;
    Ok(Arc::new(objects))
}

impl Cloud {
    fn name(self) -> &'static str {
        match self {
            Self::Aws => "S3",
            Self::Azure => "Azure Blob Storage",
            Self::Gcp => "Google Cloud Storage",
        }
    }

    /// What it takes to be let in.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Aws => {
                "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION (for a profile: \
                 `eval \"$(aws configure export-credentials --format env)\"`), and AWS_ENDPOINT_URL \
                 for another server than Amazon's; for a public bucket AWS_SKIP_SIGNATURE=true with \
                 --cache-remote-read-only"
            }
            Self::Azure => {
                "set AZURE_STORAGE_ACCOUNT_NAME and one of AZURE_STORAGE_ACCOUNT_KEY, \
                 AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID"
            }
            Self::Gcp => {
                "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key, or run \
                 `gcloud auth application-default login`"
            }
        }
    }

    /// A failure for which the environment is to blame.
    #[cfg(feature = "cloud")]
    fn unfit(self, error: &object_store::Error) -> Failure {
        let message = format!("no credentials for {}", self.name());
        Failure::input(message)
            .with_source(std::io::Error::other(reason(error)))
            .with_help(self.remedy())
    }

    #[cfg_attr(
        not(feature = "cloud"),
        expect(unused_variables, reason = "there is no client to give them to")
    )]
    fn open(
        self,
        bucket: &str,
        patience: Patience,
        ca_file: Option<&Path>,
    ) -> Result<Arc<dyn ObjectStore>> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws => cloud::aws(bucket, patience, ca_file),
            #[cfg(feature = "azure")]
            Self::Azure => cloud::azure(bucket, patience, ca_file),
            #[cfg(feature = "gcp")]
            Self::Gcp => cloud::gcp(bucket, patience, ca_file),
            #[cfg(not(all(feature = "aws", feature = "azure", feature = "gcp")))]
            without => {
                let message = format!("this nodekiln was built without {}", without.name());
                Err(Failure::new(Class::Unsupported, message)
                    .with_help("build it with cargo's features `aws`, `azure` and `gcp`"))
            }
        }
    }
}

#[cfg(feature = "cloud")]
mod cloud {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use nodekiln_words::{Class, Result, ResultExt as _};
    use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

    use super::{Cloud, Patience};

    /// How long a server may be silent.
    const STALL_TIMEOUT: Duration = Duration::from_secs(30);

    impl Patience {
        fn retries(self) -> RetryConfig {
            let (max_retries, retry_timeout, longest) = match self {
                // Clouds lend machines credentials at an address that answers nowhere else.
                Self::Little => (1, Duration::from_secs(5), Duration::from_millis(200)),
                Self::Much => (4, Duration::from_secs(60), Duration::from_secs(5)),
            };
            let init_backoff = Duration::from_millis(100);
            let backoff = BackoffConfig { init_backoff, max_backoff: longest, base: 2. };
            RetryConfig { backoff, max_retries, retry_timeout }
        }
    }

    /// How servers are reached: proxies and authorities are those of everything that is fetched.
    fn options(patience: Patience, ca_file: Option<&Path>) -> Result<ClientOptions> {
        let connect = match patience {
            Patience::Little => Duration::from_secs(5),
            Patience::Much => Duration::from_secs(20),
        };
        let mut options = ClientOptions::new()
            .with_connect_timeout(connect)
            .with_read_timeout(STALL_TIMEOUT)
            .with_timeout_disabled(); // large objects take as long as they take
        if let Some(path) = ca_file {
            let name = || format!("certificates in {}", path.display());
            let pem = fs_err::read(path).or_fail(Class::Input, name)?;
            for certificate in Certificate::from_pem_bundle(&pem).or_fail(Class::Input, name)? {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }

    /// Settings such as `AWS_ALLOW_HTTP` are client options too, and stand in the environment.
    fn from_environment<K: std::str::FromStr>(prefix: &str) -> Vec<(K, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(prefix))
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
            .collect()
    }

    #[cfg(feature = "aws")]
    pub(super) fn aws(
        bucket: &str,
        patience: Patience,
        ca_file: Option<&Path>,
    ) -> Result<Arc<dyn ObjectStore>> {
        use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
        let mut builder = AmazonS3Builder::new()
            .with_client_options(options(patience, ca_file)?)
            .with_retry(patience.retries());
        let settings: Vec<(Key, String)> = from_environment("AWS_");
        let has = |wanted: Key| settings.iter().any(|(key, _)| *key == wanted);
        let elsewhere = [
            Key::AccessKeyId,
            Key::SecretAccessKey,
            Key::SkipSignature,
            Key::WebIdentityTokenFile,
            Key::ContainerCredentialsRelativeUri,
            Key::ContainerCredentialsFullUri,
        ];
        // What Amazon's own programs understand: a machine whose metadata service is not to be asked.
        let disabled = std::env::var("AWS_EC2_METADATA_DISABLED");
        let disabled = disabled.is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        if disabled && !elsewhere.into_iter().any(has) {
            let failure = nodekiln_words::Failure::input("no credentials for S3");
            return Err(failure.with_help(Cloud::Aws.remedy()));
        }
        for (key, value) in settings {
            builder = builder.with_config(key, value);
        }
        let objects = builder.with_bucket_name(bucket).build();
        objects.map(|objects| Arc::new(objects) as _).map_err(|error| Cloud::Aws.unfit(&error))
    }

    #[cfg(feature = "gcp")]
    pub(super) fn gcp(
        bucket: &str,
        patience: Patience,
        ca_file: Option<&Path>,
    ) -> Result<Arc<dyn ObjectStore>> {
        use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(options(patience, ca_file)?)
            .with_retry(patience.retries());
        for (key, value) in from_environment::<GoogleConfigKey>("GOOGLE_") {
            builder = builder.with_config(key, value);
        }
        let objects = builder.with_bucket_name(bucket).build();
        objects.map(|objects| Arc::new(objects) as _).map_err(|error| Cloud::Gcp.unfit(&error))
    }

    #[cfg(feature = "azure")]
    pub(super) fn azure(
        container: &str,
        patience: Patience,
        ca_file: Option<&Path>,
    ) -> Result<Arc<dyn ObjectStore>> {
        use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(options(patience, ca_file)?)
            .with_retry(patience.retries());
        for (key, value) in from_environment::<AzureConfigKey>("AZURE_") {
            builder = builder.with_config(key, value);
        }
        let objects = builder.with_container_name(container).build();
        objects.map(|objects| Arc::new(objects) as _).map_err(|error| Cloud::Azure.unfit(&error))
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Class;

    use super::*;

    #[test]
    fn addresses_name_a_cloud_a_bucket_and_a_prefix() {
        let bucket = |cloud, prefix: &str| Place::Bucket {
            cloud,
            bucket: "my-bucket".to_owned(),
            prefix: prefix.to_owned(),
        };
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert_eq!(place("s3://my-bucket"), bucket(Cloud::Aws, ""));
        assert_eq!(place("gs://my-bucket/a/b/"), bucket(Cloud::Gcp, "a/b"));
        assert_eq!(place("az://my-bucket/x"), bucket(Cloud::Azure, "x"));
        assert_eq!(place("file:///srv/a%20b"), Place::Folder("/srv/a b".into()));
    }

    #[test]
    fn addresses_that_are_wrong_or_hold_secrets_are_refused_with_a_remedy() {
        for text in [
            "",
            "bucket",
            "/srv",
            "ftp://host/x",
            "s3://",
            "s3:///prefix",
            "file://relative/x",
            "s3://KEY:SECRET@bucket/x",
            "az://container?sig=SECRET",
            "s3://bucket:9000/x",
        ] {
            let failure = text.parse::<Place>().unwrap_err();
            assert_eq!(failure.class(), Class::Input, "{text}");
            assert!(failure.help().is_some(), "{text}");
            assert!(!format!("{failure:?}").contains("SECRET"), "{failure:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let failure = Place::Folder(missing.clone()).open(Patience::Much, None).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        assert!(failure.help().unwrap().contains("mount"));
        assert!(!missing.exists());
    }
}
