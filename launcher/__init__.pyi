from launcher.api import Deployment as Deployment
from launcher.api import Plan as Plan
from launcher.api import Wishes as Wishes
from launcher.api import load as load
from launcher.api import plan as plan
from launcher.api import stop as stop
from launcher.api import up as up

__version__: str
