"""Jobs that run one experiment on every host of a cluster, as plain files from templates. Nothing here talks to a cluster but
`submit`, which hands a job to the cluster's own tool."""
