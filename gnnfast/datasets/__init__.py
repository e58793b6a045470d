"""Where graphs come from."""

from gnnfast.datasets.amazon import amazon as amazon
from gnnfast.datasets.coauthor import coauthor as coauthor
from gnnfast.datasets.digits import digits as digits
from gnnfast.datasets.files import files as files
from gnnfast.datasets.gowalla import gowalla as gowalla
from gnnfast.datasets.link_split import link_split as link_split
from gnnfast.datasets.musae import musae as musae
from gnnfast.datasets.ogb import ogb as ogb
from gnnfast.datasets.planetoid import planetoid as planetoid
from gnnfast.datasets.pyg import pyg as pyg
from gnnfast.datasets.synthetic import synthetic as synthetic
