//! The composition root: what a node and a facade are made of.

/// Runs a node until it is told to stop.
pub async fn serve_node(config: crate::config::NodeConfig) -> anyhow::Result<()> {
    anyhow::bail!("node {}: not linked yet", config.node.name)
}

/// Runs a facade until it is told to stop.
pub async fn serve_facade(config: crate::config::FacadeConfig) -> anyhow::Result<()> {
    anyhow::bail!("facade {}: not linked yet", config.facade.name)
}
